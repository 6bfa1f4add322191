#ifndef MLOPS_SERVICE_SERVER_SERVER_H_
#define MLOPS_SERVICE_SERVER_SERVER_H_

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
#include "service/fs/fs_lock.h"
#include "service/observe/log.h"
#include "service/rpc/artifact_streams.h"
#include "service/rpc/call.h"
#include "service/rpc/workspace_service.h"
#include "service/server/acceptor.h"
#include "service/server/config.h"

namespace mlops::server {

// The whole assembly: from a configuration to a server that answers. Not thread-safe.
class Server {
 public:
  // Locks the base directory, reads it, and listens. Errors are sentences for the operator: ALREADY_EXISTS if the base
  // is served by another server, FAILED_PRECONDITION where he can mend it: the base cannot be written, an address
  // cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Config& config);

  // Stops listening, lets calls in flight end for at most `drain_timeout`, and saves the checkpoint.
  ~Server();

  // Where it listens, for clients: "unix:<path>" first, then "<host>:<port>".
  const std::vector<std::string>& addresses() const { return addresses_; }
  const std::string& base_path() const { return base_path_; }

  // To be called about once a second: tells the health service if the catalog can no longer write, and ends calls whose
  // clients stand still.
  void CheckHealth();

  // Whether there has been no call for so long that the server should leave; a server that may leave also does where
  // its base directory was removed or moved.
  bool IsIdle() const;

 private:
  explicit Server(const Config& config) : config_(config) {}

  absl::Status LockBase();
  absl::Status OpenCatalog();
  absl::Status Listen();
  absl::Status Announce();
  void Drain();
  void EndStreams(const rpc::IdleRule& rule);
  void NoteReset(const std::string& peer);

  const Config config_;
  std::string base_path_;
  std::vector<std::string> addresses_;
  // In the order in which they depend on each other; destroyed from the last to the first.
  std::unique_ptr<fs::LockFile> lock_;
  std::unique_ptr<observe::Log> log_;
  std::unique_ptr<catalog::FileCatalog> catalog_;
  std::unique_ptr<core::Artifacts> artifacts_;
  std::unique_ptr<catalog::Maintainer> maintainer_;
  std::unique_ptr<core::Authority> authority_;
  std::unique_ptr<base::ThreadPool> workers_;
  std::unique_ptr<base::ThreadPool> stream_workers_;  // Of their own: a sync of much data takes long.
  std::unique_ptr<rpc::Calls> calls_;
  std::unique_ptr<rpc::ArtifactStreams> artifact_streams_;
  std::unique_ptr<rpc::WorkspaceService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_SERVER_H_
