#ifndef MLOPS_SERVICE_SERVER_SERVER_H_
#define MLOPS_SERVICE_SERVER_SERVER_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "service/auth/gate.h"
#include "service/base/thread_pool.h"
#include "service/catalog/upkeep.h"
#include "service/fs/base_lock.h"
#include "service/observe/audit.h"
#include "service/observe/log.h"
#include "service/observe/reload_metrics.h"
#include "service/rpc/archive_streams.h"
#include "service/rpc/artifact_streams.h"
#include "service/rpc/call.h"
#include "service/rpc/identify.h"
#include "service/rpc/receive_quota.h"
#include "service/rpc/transfer_slots.h"
#include "service/rpc/watch_hub.h"
#include "service/rpc/workspace_service.h"
#include "service/server/acceptor.h"
#include "service/server/config.h"
#include "service/server/connections.h"
#include "service/server/credentials.h"
#include "service/server/maintainer.h"
#include "service/server/metrics_http.h"
#include "service/server/server_metrics.h"
#include "service/server/store.h"

namespace mlops::server {

// Assembles the server from a configuration. Not thread-safe.
class Server {
 public:
  // Called repeatedly while another server holds the base. Waits for about
  // 0.1 s, and returns false if the process should stop. `status` names that
  // server in one line for the operator.
  using KeepWaiting = std::function<bool(const std::string& status)>;

  // Locks the base directory, listens, reads the base, and starts to answer
  // calls. Writes nothing to the base until it is certain that no other server
  // serves it; then it sweeps what a crash has left. With Config::wait, stands
  // by while another server serves the base, which requires `keep_waiting`.
  // Errors are sentences for the operator:
  //   CANCELLED if `keep_waiting` returned false;
  //   ALREADY_EXISTS if another server serves the base;
  //   PERMISSION_DENIED if the base exists but cannot be written,
  //     so that --read-only may work;
  //   FAILED_PRECONDITION for everything else that the operator can fix,
  //     such as an address in use.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const Config& config, const KeepWaiting& keep_waiting = nullptr);

  // Refuses new calls, waits up to `drain_timeout` for calls in flight,
  // closes all connections, and saves the checkpoint.
  ~Server();

  // The addresses for clients: the Unix socket of the base, then those of
  // Config::listen. A read-only server has no socket in the base, and one
  // outside it only if Config::listen is empty.
  const std::vector<std::string>& addresses() const { return addresses_; }
  const std::string& base_path() const { return base_path_; }

  // Whether the process should exit, because the server has lost its base
  // directory or has had no call for Config::idle_timeout. With an idle
  // timeout, also true once no call is running after a disk failure, because
  // the next server reads the disk again. Must be called a few times a second.
  bool ShouldLeave() const;

  // Ends calls whose clients are idle. Must be called at least once a second.
  void EndIdleCalls();

  // Rereads the token, key and policy files, whether or not they have changed;
  // certificates follow their files anyway. Logs which settings in `config`
  // differ from the current ones, because only a restart applies them, or why
  // the settings could not be read.
  void Reload(const absl::StatusOr<Config>& config);

 private:
  // Name of the TLS files in log lines and metrics.
  static constexpr char kCertificates[] = "certificates";
  explicit Server(const Config& config)
      : config_(config), listen_(config.listen) {}

  // The steps of Start(), in this order. Each uses the results of earlier ones.
  absl::Status OpenGate();
  absl::Status StartMetrics();
  // Waits until LockBase() no longer returns ALREADY_EXISTS. `locked` is its
  // first result. Returns its last one.
  absl::StatusOr<std::unique_ptr<fs::BaseLock>> StandBy(
      const absl::Status& locked, const KeepWaiting& keep_waiting);
  absl::Status Listen();
  absl::Status OpenLog();
  absl::Status OpenAudit();
  absl::Status OpenStore();
  rpc::PeerFacts PeerFacts() const;
  void MakeCalls();
  void MakeServices();
  absl::Status StartGrpc();
  void WatchParts();
  void AcceptConnections();
  void StartChores();

  absl::StatusOr<std::vector<std::string>> ChooseAddresses() const;
  absl::StatusOr<std::unique_ptr<Acceptor>> ListenOn(
      const std::vector<std::string>& addresses) const;
  absl::Status ListenForProxy();
  std::vector<Maintainer::Chore> Chores();
  // Whether the server no longer owns the base. Runs for every call, on any
  // thread. Once true, stays true.
  bool IsLost();
  // Returns why no change may begin now, or OK.
  absl::Status CheckMayChange();
  // Returns an error, once, if the server no longer owns the base, and then
  // sets the health status to NOT_SERVING.
  absl::Status WatchBase();
  // Returns why new calls should go to another server, or OK.
  absl::Status CheckReady();
  // Rereads the changed files among those that decide who may call.
  absl::Status CheckGate();
  void ReportFile(const std::string& what, const absl::Status& status);
  absl::Status CheckCertificate();
  // Logs a background failure.
  void Report(absl::string_view what, const absl::Status& problem);
  // Sets the health status to NOT_SERVING permanently.
  void StopServing(const absl::Status& why);
  // Writes the lock file, through which clients find the server, and other
  // files that a full disk may have prevented so far. No-op once it has
  // succeeded, or if the server has lost the base.
  absl::Status Announce();
  // Logs a warning if the base belongs to another user or is world-writable, or
  // if everybody may connect over TLS.
  void WarnOfStrangers();
  // Refuses new calls and waits for those in flight.
  void Drain();
  void EndStreams(const rpc::IdleRule& rule);
  void NoteReset(const std::string& peer);
  void Disconnect(const std::string& peer);

  const Config config_;
  // Config::listen, with the actual ports if the server has stood by.
  std::vector<std::string> listen_;
  std::string base_path_;
  std::vector<std::string> addresses_;
  std::atomic<bool> lost_ = false;
  // When IsLost() last looked.
  std::atomic<rpc::SteadyClock::time_point> named_at_ = rpc::kLongAgo;
  std::atomic<bool> started_ = false;
  std::atomic<bool> draining_ = false;
  // Start() uses the next two, then only the maintainer's thread.
  bool announced_ = false;
  bool lost_told_ = false;
  // In order of dependency; destroyed in reverse order.
  ServerMetrics metrics_;
  // Keyed by the name of the file or files.
  std::map<std::string, observe::ReloadMetrics> reloads_;
  std::unique_ptr<auth::Gate> gate_;
  std::unique_ptr<TlsCredentials> tls_;  // Null without TLS.
  std::unique_ptr<fs::BaseLock> lock_;
  std::unique_ptr<observe::Log> log_;
  std::unique_ptr<observe::AuditLog> audit_;  // Null without an audit log.
  std::unique_ptr<Store> store_;
  std::unique_ptr<catalog::Upkeep> upkeep_;
  std::unique_ptr<Maintainer> maintainer_;
  std::unique_ptr<base::ThreadPool> workers_;
  std::unique_ptr<base::ThreadPool> whole_file_workers_;
  // Separate from workers_, because the sync of a large file takes long.
  std::unique_ptr<base::ThreadPool> stream_workers_;
  // Separate from whole_file_workers_, because a clone keeps its thread.
  std::unique_ptr<base::ThreadPool> clone_workers_;
  std::unique_ptr<rpc::Calls> calls_;
  std::unique_ptr<rpc::ReceiveQuota> receive_quota_;
  std::unique_ptr<rpc::ArtifactStreams> artifact_streams_;
  rpc::TransferSlots transfer_slots_{rpc::kMaxTransfers};
  std::unique_ptr<rpc::ArchiveStreams> archive_streams_;
  std::unique_ptr<rpc::WatchHub> watches_;
  std::unique_ptr<rpc::WorkspaceService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Connections> connections_;
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<MetricsHttp> metrics_http_;  // Null without --metrics.
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_SERVER_H_
