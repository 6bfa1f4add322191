#ifndef MLOPS_SERVICE_SERVER_SERVER_H_
#define MLOPS_SERVICE_SERVER_SERVER_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "service/artifacts/artifacts.h"
#include "service/base/thread_pool.h"
#include "service/catalog/file_catalog.h"
#include "service/catalog/maintainer.h"
#include "service/core/authority.h"
#include "service/core/disk_health.h"
#include "service/fs/base_lock.h"
#include "service/observe/log.h"
#include "service/rpc/artifact_streams.h"
#include "service/rpc/call.h"
#include "service/rpc/workspace_service.h"
#include "service/server/acceptor.h"
#include "service/server/config.h"

namespace mlops::server {

// The whole assembly: from a configuration to a server that answers. Not
// thread-safe.
class Server {
 public:
  // Locks the base directory, listens, reads the base, and answers. Until it is
  // certain that nobody else serves the base, nothing is written there; what a
  // crash left is swept after that. Errors are sentences for the operator:
  //   ALREADY_EXISTS if the base is served by another server;
  //   PERMISSION_DENIED if there is a base that cannot be written, so that
  //   --read-only may do; FAILED_PRECONDITION for everything else that the
  //   operator can mend, such as an address in use.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config);

  // Stops listening, lets calls in flight end for at most `drain_timeout`, and
  // saves the checkpoint.
  ~Server();

  // Where it listens, for clients. The Unix socket of the base comes first,
  // then those of Config::listen; a server that only reads has no socket in the
  // base, and the one outside only where Config::listen names nothing.
  const std::vector<std::string>& addresses() const { return addresses_; }
  const std::string& base_path() const { return base_path_; }

  // Whether the server should end, to be asked a few times a second: its base
  // directory is not its own any more, or it may leave (Config::idle_timeout)
  // and has had no call for so long. A server that may leave does so, once no
  // call is running, also when its disk has failed: the next one reads what is
  // on it.
  bool ShouldLeave() const;

  // Ends calls whose clients stand still; to be called about once a second or
  // more often.
  void EndIdleCalls();

 private:
  explicit Server(const Config& config) : config_(config) {}

  absl::Status LockBase();
  absl::Status Listen();
  absl::StatusOr<std::vector<std::string>> ChooseAddresses() const;
  absl::Status OpenLog();
  absl::Status OpenCatalog();
  absl::Status Serve();
  // Whether the base is not this server's any more. Asked for every call, from
  // any thread; never changes back.
  bool IsLost();
  // Why nothing may be changed now, or OK.
  absl::Status CheckMayChange();
  // What is to be done a few times a second, by the maintainer's thread.
  void DoChores();
  // Logs what went wrong in the background.
  void Report(absl::string_view what, const absl::Status& problem);
  // Has the health service answer NOT_SERVING from now on.
  void StopServing(const absl::Status& why);
  // Writes what clients find the server by, and what could not be written yet
  // because the disk is full.
  absl::Status Announce();
  void WarnOfStrangers();
  void Drain();
  void EndStreams(const rpc::IdleRule& rule);
  void NoteReset(const std::string& peer);

  const Config config_;
  std::string base_path_;
  std::vector<std::string> addresses_;
  std::atomic<bool> lost_ = false;
  // Used by Start(), then by the maintainer's thread alone, as the next.
  bool announced_ = false;
  bool lost_told_ = false;
  // In the order in which they depend on each other; destroyed from the last to
  // the first.
  std::unique_ptr<fs::BaseLock> lock_;
  std::unique_ptr<observe::Log> log_;
  std::shared_ptr<core::DiskHealth> health_;
  std::unique_ptr<catalog::FileCatalog> catalog_;
  std::unique_ptr<core::Artifacts> artifacts_;
  std::unique_ptr<catalog::Maintainer> maintainer_;
  std::unique_ptr<core::Authority> authority_;
  std::unique_ptr<base::ThreadPool> workers_;
  std::unique_ptr<base::ThreadPool> whole_file_workers_;
  // Of their own: a sync of much data takes long.
  std::unique_ptr<base::ThreadPool> stream_workers_;
  std::unique_ptr<rpc::Calls> calls_;
  std::unique_ptr<rpc::ArtifactStreams> artifact_streams_;
  std::unique_ptr<rpc::WorkspaceService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_SERVER_H_
