#ifndef MLOPS_LEASE_H_
#define MLOPS_LEASE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mlops/options.h"
#include "mlops/workspace_client.h"

// A lease that is renewed in the background and released at the end.
//
// EXAMPLE
//
//   auto lease = mlops::Lease::Acquire(client, "fraud",
//                                      {.wait = absl::Minutes(5)});
//   if (!lease.ok()) return lease.status();
//   const auto updated = client.Update(
//       "fraud", {.mlflow_experiment_id = "17"}, {}, lease->Options());
//   if (mlops::ErrorReason(updated.status()) == "LEASE_LOST")
//     ...  // Nothing was changed, and others may have changed the workspace.
namespace mlops {

struct LeaseOptions {
  // 1 to 128 printable ASCII characters, shown to others. Default:
  // `<user>@<host>:<pid>:<random>`.
  std::string holder = "";
  // How long the lease outlives a process that no longer renews it; 1 s to 24
  // h.
  absl::Duration ttl = absl::Seconds(60);
  // How long to wait for another holder's lease to end. The server reports the
  // end; if the workspace cannot be watched, the client asks once a second
  // instead.
  absl::Duration wait = absl::ZeroDuration();
};

// The exclusive right to change one workspace through the service. A thread
// renews the lease after a third of its ttl. The destructor releases it.
//
// Calls use the lease only if they get its Options(). Such calls return
// FAILED_PRECONDITION/LEASE_LOST and change nothing if the lease is lost,
// because it was not renewed in time or somebody released it by force. Programs
// that change files directly through the file system should call Check() before
// each change.
//
// Thread-safe, except for moves. A forked child must not use it.
class Lease {
 public:
  // Acquires the lease on `project`.
  //
  // Returns the errors of WorkspaceClient::AcquireLease, but LEASE_HELD only
  // after `options.wait`.
  static absl::StatusOr<Lease> Acquire(const WorkspaceClient& client,
                                       std::string_view project,
                                       const LeaseOptions& options = {},
                                       const CallOptions& call = {});

  // A moved-from lease can only be destroyed or assigned to.
  Lease(Lease&&) noexcept;
  Lease& operator=(Lease&&) noexcept;
  // Releases the lease unless it is lost or already released. Best effort.
  ~Lease();

  const std::string& project() const;
  const std::string& holder() const;
  // Returns the fence. Store it with changes made elsewhere, to detect changes
  // by former holders.
  int64_t fence() const;

  // Returns `call` with the fence of this lease.
  CallOptions Options(CallOptions call = {}) const;

  // Returns OK while the lease is held. Afterwards returns
  // FAILED_PRECONDITION/LEASE_LOST {fence, current_fence} or, after Release(),
  // FAILED_PRECONDITION without a reason.
  absl::Status Check() const;
  bool lost() const { return !Check().ok(); }

  // Releases the lease and returns whether that succeeded. Returns the error of
  // Check() if the lease is no longer held.
  absl::Status Release();

 private:
  class State;
  explicit Lease(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace mlops

#endif  // MLOPS_LEASE_H_
