#ifndef MLOPS_SERVICE_AUTH_GATE_H_
#define MLOPS_SERVICE_AUTH_GATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "service/auth/access.h"
#include "service/auth/authenticator.h"
#include "service/auth/policy.h"
#include "service/base/clock.h"
#include "service/base/published.h"
#include "service/base/reloaded_file.h"

namespace mlops::auth {

// Decides who may call: the authenticator and the policy, which follow changes
// of their files. Thread-safe.
class Gate {
 public:
  struct Options {
    // Paths; "" means that there is no such file.
    std::string tokens;
    std::string jwks;
    std::string jwt_issuer;
    std::string jwt_audience;
    std::string policy;
    // Whether the server verifies client certificates.
    bool client_certificates = false;
    // Whether a proxy names the callers.
    bool proxy = false;
    // Every RPC of the server. Must never be destroyed.
    absl::Span<const Rpc> rpcs;
    base::Clock clock = base::SystemClock();
  };
  // Called after a file was reread: with OK if it is in force, otherwise with
  // the reason why the previous content remains in force.
  using Report = absl::FunctionRef<void(const base::ReloadedFile& file,
                                        const absl::Status& status)>;

  // Reads all files. Returns INVALID_ARGUMENT (no reason) if only some of
  // `jwks`, the issuer and the audience are given, and the errors of
  // ReloadedFile, TokenTable, JwtVerifier and Policy.
  static absl::StatusOr<std::unique_ptr<Gate>> Open(Options options);

  absl::StatusOr<Caller> Authenticate(const Presented& presented) const {
    return authenticator_.Authenticate(presented);
  }

  // Returns the policy in force. Without a file, it allows everything.
  std::shared_ptr<const Policy> policy() const { return policy_.Get(); }

  // Rereads the files that have changed. Call it a few times a second; it costs
  // a stat(2) per file.
  void Check(Report report) ABSL_LOCKS_EXCLUDED(mutex_);
  // Rereads all files, whether or not they have changed, and reports each.
  void Reload(Report report) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the files, for their counters.
  const std::vector<std::unique_ptr<base::ReloadedFile>>& files() const {
    return files_;
  }

 private:
  explicit Gate(Options options);

  void AddFile(std::string what, const std::string& path,
               base::ReloadedFile::Apply apply);
  absl::Status ApplyTokens(absl::string_view text);
  absl::Status ApplyJwks(absl::string_view text);
  absl::Status ApplyPolicy(absl::string_view text);

  const Options options_;
  Authenticator authenticator_;
  base::Published<Policy> policy_;
  // Lets only one thread at a time read files.
  absl::Mutex mutex_;
  // Does not change after Open().
  std::vector<std::unique_ptr<base::ReloadedFile>> files_;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_GATE_H_
