#include "service/server/server.h"

#include <grp.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server_builder.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/unique_fd.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/rpc/watch_stream.h"
#include "service/server/base_directory.h"
#include "service/server/grpc_settings.h"
#include "service/server/identity.h"
#include "service/server/listeners.h"
#include "service/server/standby.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

constexpr size_t kMaxQueuedCalls = 1024;
// Few, because each thread keeps a disk or a core busy.
constexpr int kWholeFileWorkers = 4;
// Number of concurrent clones.
constexpr int kCloneWorkers = 4;

// Maximum length of the description of the server that a standby waits for.
constexpr size_t kMaxHolderBytes = 1024;

// After this time without a call, clients have noticed that the server is
// stopping.
constexpr absl::Duration kQuiet = absl::Milliseconds(20);
constexpr absl::Duration kMaxWaitForQuiet = absl::Seconds(1);
// A client that sends nothing for this long no longer delays the shutdown.
constexpr absl::Duration kIdleWhileDraining = absl::Milliseconds(500);
// Time for sending the last responses.
constexpr absl::Duration kSendGrace = absl::Milliseconds(500);
// Time that streams of the health and reflection services get to end.
constexpr absl::Duration kStreamGrace = absl::Milliseconds(100);

// How long a look at the name of the lock is valid. Less than gRPC takes to
// carry a request here, so each request that is sent after the base has moved
// is refused. With 64 calls in flight, Get is 7 % faster than with a look for
// each call.
constexpr std::chrono::microseconds kNamedFor(20);

// Returns nullopt for "".
absl::StatusOr<std::optional<gid_t>> FindGroup(const std::string& name) {
  if (name.empty()) return std::nullopt;
  const group* const found = ::getgrnam(name.c_str());
  if (found == nullptr)
    return Refusal(absl::StrCat("there is no group ", name));
  return found->gr_gid;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const Config& config, const KeepWaiting& keep_waiting) {
  auto server = std::unique_ptr<Server>(new Server(config));
  for (const std::string& address : config.listen)
    RETURN_IF_ERROR(
        CheckAddress(address, config.insecure || !config.tls_cert.empty()));
  // Check the settings first: a mistake should not wait for another server to
  // stop.
  ASSIGN_OR_RETURN(server->base_path_, MakeBase(config.base, config.read_only));
  RETURN_IF_ERROR(server->OpenGate());
  auto lock = LockBase(server->base_path_, config.read_only);
  if (config.wait && absl::IsAlreadyExists(lock.status()))
    lock = server->StandBy(lock.status(), keep_waiting);
  ASSIGN_OR_RETURN(server->lock_, std::move(lock));
  // Start the metrics first, so that probes get answers while the base is read.
  RETURN_IF_ERROR(server->StartMetrics());
  RETURN_IF_ERROR(server->Listen());
  RETURN_IF_ERROR(server->OpenLog());
  RETURN_IF_ERROR(server->OpenAudit());
  RETURN_IF_ERROR(server->OpenStore());
  server->MakeCalls();
  server->MakeServices();
  RETURN_IF_ERROR(server->StartGrpc());
  server->WatchParts();
  // Accept last: calls may now use every part.
  server->AcceptConnections();
  server->StartChores();
  return server;
}

absl::Status Server::OpenGate() {
  ASSIGN_OR_RETURN(gate_, server::OpenGate(config_));
  for (const auto& file : gate_->files()) {
    const absl::string_view label = absl::StripSuffix(file->what(), " file");
    reloads_.try_emplace(file->what(), metrics_.metrics(),
                         absl::AsciiStrToLower(label));
  }
  ASSIGN_OR_RETURN(tls_, LoadTls(config_));
  if (tls_ != nullptr)
    reloads_.try_emplace(kCertificates, metrics_.metrics(), kCertificates);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<fs::BaseLock>> Server::StandBy(
    const absl::Status& locked, const KeepWaiting& keep_waiting) {
  // Log to standard error, because the serving server may be writing the log
  // file.
  ASSIGN_OR_RETURN(log_, observe::Log::Open({}));
  ASSIGN_OR_RETURN(auto acceptor, ListenOn(listen_));
  ASSIGN_OR_RETURN(const auto standby,
                   Standby::Start(config_, std::move(acceptor), [this] {
                     return metrics_.metrics().Write();
                   }));
  // Keep the ports that were assigned, so that clients find the server there
  // later.
  listen_ = standby->addresses();
  const std::string state =
      listen_.empty()
          ? "stands by"
          : absl::StrCat("stands by on ", absl::StrJoin(listen_, " and "));
  absl::StatusOr<std::unique_ptr<fs::BaseLock>> lock = locked;
  for (; absl::IsAlreadyExists(lock.status());
       lock = LockBase(base_path_, config_.read_only)) {
    const std::string holder =
        base::Echo(lock.status().message(), kMaxHolderBytes);
    // A standby cannot identify callers, so strangers must not learn more.
    standby->SetRefusal(core::StandsBy(
        HasIdentity(config_) ? "another server serves" : holder));
    if (!keep_waiting(absl::StrCat(state, ": ", holder)))
      return absl::CancelledError("stopped while standing by");
    // Follow changes of the files, so that the server starts with the current
    // ones.
    Report("cannot read a file again", CheckGate());
    standby->ReloadTls();
  }
  return lock;
}

absl::StatusOr<std::vector<std::string>> Server::ChooseAddresses() const {
  if (config_.read_only && !listen_.empty()) return listen_;
  ASSIGN_OR_RETURN(std::string socket, config_.read_only
                                           ? ReadOnlySocketAddress(base_path_)
                                           : UnixSocketAddress(base_path_));
  std::vector<std::string> addresses = {std::move(socket)};
  addresses.insert(addresses.end(), listen_.begin(), listen_.end());
  return addresses;
}

absl::StatusOr<std::unique_ptr<Acceptor>> Server::ListenOn(
    const std::vector<std::string>& addresses) const {
  ASSIGN_OR_RETURN(const std::optional<gid_t> group,
                   FindGroup(config_.socket_group));
  return Acceptor::Listen(addresses, group);
}

absl::Status Server::Listen() {
  ASSIGN_OR_RETURN(std::vector<std::string> addresses, ChooseAddresses());
  base::UniqueFd turn;
  // Only read-only servers can share a socket, so only they take turns to
  // listen.
  if (config_.read_only && listen_.empty()) {
    turn = LockDirOf(addresses.front());
    if (IsAnswered(addresses.front())) {
      return absl::AlreadyExistsError(absl::StrCat(
          base_path_, " is already served read-only on ", addresses.front()));
    }
  }
  auto acceptor = ListenOn(addresses);
  if (!config_.read_only &&
      (absl::IsResourceExhausted(acceptor.status()) || !lock_->has_file())) {
    // If the disk is too full for a socket in the base, use one outside.
    ASSIGN_OR_RETURN(addresses.front(), SocketAddressOutside(base_path_));
    // The first one may have got the other addresses.
    if (acceptor.ok()) acceptor->reset();
    acceptor = ListenOn(addresses);
  }
  if (!acceptor.ok()) return Refusal(acceptor.status().message());
  acceptor_ = *std::move(acceptor);
  // The acceptor has replaced port 0 with the actual port.
  addresses_ = acceptor_->addresses();
  return ListenForProxy();
}

absl::Status Server::ListenForProxy() {
  if (config_.proxy_socket.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::optional<gid_t> group,
                   FindGroup(config_.proxy_group));
  const absl::Status listening =
      acceptor_->ListenForProxy(config_.proxy_socket, group);
  return listening.ok() ? listening : Refusal(listening.message());
}

absl::Status Server::OpenLog() {
  std::error_code ignored;
  const std::filesystem::path server_dir =
      std::filesystem::path(base_path_) / std::string(core::layout::kServerDir);
  const std::filesystem::path parent =
      std::filesystem::path(config_.log_file).parent_path();
  observe::Log::Options options{.file = config_.log_file,
                                .calls = config_.log_calls};
  // Other processes may write below the base, so follow no links there.
  options.follow_links =
      std::filesystem::weakly_canonical(parent, ignored) != server_dir;
  // If the disk was too full for the server's directory, log to standard error.
  if (!options.follow_links && !std::filesystem::exists(server_dir, ignored))
    options.file.clear();
  ASSIGN_OR_RETURN(log_, observe::Log::Open(options));
  WarnOfStrangers();
  return absl::OkStatus();
}

absl::Status Server::OpenAudit() {
  if (config_.audit_log.empty()) return absl::OkStatus();
  const auto report = [this](const absl::Status& problem) {
    if (problem.ok()) return log_->Info("the audit log can be written again");
    log_->Problem("cannot write the audit log", problem);
  };
  ASSIGN_OR_RETURN(
      audit_, observe::AuditLog::Open(
                  config_.audit_log,
                  {.required = config_.audit_required, .on_problem = report}));
  return absl::OkStatus();
}

// Users who can write to the base can change what the server reads and serves.
// Encryption alone does not identify callers.
void Server::WarnOfStrangers() {
  if (tls_ != nullptr && !HasIdentity(config_)) {
    log_->Warning(
        "everybody who can connect may make calls: set --tokens, "
        "--jwks or --tls-client-auth to identify callers");
  }
  struct stat info;
  if (::stat(base_path_.c_str(), &info) != 0) return;
  if (info.st_uid != ::geteuid()) {
    log_->Warning(absl::StrCat(base_path_, " belongs to the user ", info.st_uid,
                               ", not to ", ::geteuid(),
                               ", as whom the server runs"));
  }
  if ((info.st_mode & S_IWOTH) != 0)
    log_->Warning(absl::StrCat(base_path_, " can be written by every user"));
}

bool Server::IsLost() {
  if (lost_.load(std::memory_order_relaxed)) return true;
  const rpc::SteadyClock::time_point now = rpc::SteadyClock::now();
  if (now - named_at_.load(std::memory_order_relaxed) < kNamedFor) return false;
  if (lock_->IsStillNamed()) {
    named_at_.store(now, std::memory_order_relaxed);
    return false;
  }
  // Remember the loss, because the name may lead to a base of another server
  // later.
  lost_.store(true, std::memory_order_relaxed);
  return true;
}

absl::Status Server::CheckMayChange() {
  if (IsLost()) return core::ShuttingDown();
  return config_.read_only ? core::ReadOnly(base_path_) : absl::OkStatus();
}

absl::Status Server::OpenStore() {
  ASSIGN_OR_RETURN(
      store_, Store::Open({.config = &config_,
                           .base_path = base_path_,
                           .may_change = [this] { return CheckMayChange(); },
                           .report =
                               [this](absl::string_view what,
                                      const absl::Status& problem) {
                                 Report(what, problem);
                               },
                           .log = log_.get(),
                           .metrics = &metrics_}));
  return absl::OkStatus();
}

rpc::PeerFacts Server::PeerFacts() const {
  return {
      .socket_peer =
          [this](const std::string& name) -> std::optional<rpc::SocketPeer> {
        const auto peer = acceptor_->SocketPeerOf(name);
        if (!peer.has_value()) return std::nullopt;
        return rpc::SocketPeer{.uid = peer->user, .proxy = peer->proxy};
      },
      .certificate_names = CertificateNames,
      // gRPC reports header names in lower case.
      .proxy_header = absl::AsciiStrToLower(config_.proxy_header)};
}

void Server::MakeCalls() {
  // Use separate pools, so that slow work of one kind does not block another.
  workers_ =
      std::make_unique<base::ThreadPool>(config_.workers, kMaxQueuedCalls);
  stream_workers_ = std::make_unique<base::ThreadPool>(
      config_.workers, 2 * config_.max_artifact_streams);
  whole_file_workers_ =
      std::make_unique<base::ThreadPool>(kWholeFileWorkers, kMaxQueuedCalls);
  clone_workers_ =
      std::make_unique<base::ThreadPool>(kCloneWorkers, rpc::kMaxTransfers);
  calls_ = std::make_unique<rpc::Calls>(
      workers_.get(), whole_file_workers_.get(), log_.get(),
      rpc::CallOptions{
          .idle_timeout = config_.client_timeout,
          .on_cancel = [this](const std::string& peer) { NoteReset(peer); },
          .disconnect = [this](const std::string& peer) { Disconnect(peer); },
          .is_lost = [this] { return IsLost(); },
          .gate = gate_.get(),
          .peers = PeerFacts(),
          // Without any of these settings, nothing depends on the caller.
          .identifies_all = HasIdentity(config_) || !config_.policy.empty() ||
                            !config_.audit_log.empty(),
          .unread_bytes = rpc::UnreadBytes(config_.max_watchers),
          .metrics = &metrics_.calls(),
          .audit = audit_.get(),
          .audit_reads = config_.audit_reads});
}

void Server::MakeServices() {
  receive_quota_ = std::make_unique<rpc::ReceiveQuota>();
  artifact_streams_ = std::make_unique<rpc::ArtifactStreams>(
      &store_->artifacts(), calls_.get(), stream_workers_.get(),
      receive_quota_.get(), config_.max_artifact_streams);
  archive_streams_ = std::make_unique<rpc::ArchiveStreams>(
      &store_->archives(), calls_.get(), whole_file_workers_.get(),
      receive_quota_.get(), &transfer_slots_);
  watches_ = std::make_unique<rpc::WatchHub>(
      &store_->catalog(), &store_->changes(),
      rpc::WatchHub::Options{
          .max_watchers = static_cast<size_t>(config_.max_watchers),
          .lease_of =
              [this](const core::Workspace& workspace) {
                return store_->authority().LeaseOf(workspace);
              },
          .is_over_quota =
              [this](const core::Workspace& workspace) {
                return store_->ledger().is_over(workspace);
              }});
  std::vector<std::string> features;
  if (config_.read_only) features.emplace_back("read-only");
  if (!config_.project_pattern.empty())
    features.emplace_back("project-pattern");
  service_ = std::make_unique<rpc::WorkspaceService>(
      rpc::ServiceParts{.authority = &store_->authority(),
                        .artifacts = artifact_streams_.get(),
                        .archives = archive_streams_.get(),
                        .watches = watches_.get(),
                        .calls = calls_.get(),
                        .templates = &store_->templates(),
                        .clones = {.authority = &store_->authority(),
                                   .stage = &store_->stage(),
                                   .slots = &transfer_slots_,
                                   .workers = clone_workers_.get(),
                                   .base = store_->base()}},
      rpc::ServerFacts{.version = std::string(kVersion),
                       .base_path = base_path_,
                       .start_time = absl::Now(),
                       .purge_delay = config_.purge_delay,
                       .features = std::move(features)});
}

absl::Status Server::StartGrpc() {
  grpc::ServerBuilder builder;
  ApplyGrpcSettings(builder, receive_quota_->quota());
  connections_ = std::make_unique<Connections>(builder, tls_.get());
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return Refusal("gRPC failed to start");
  server_->GetHealthCheckService()->SetServingStatus(
      rpc::pb::WorkspaceService::service_full_name(), true);
  // The health service exists now, so a disk failure can change it.
  store_->health().SetListener(
      [this](const absl::Status& failure) { StopServing(failure); });
  return absl::OkStatus();
}

// Runs before the base is read, which may take long, because probes check
// whether the process is alive.
absl::Status Server::StartMetrics() {
  if (config_.metrics.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      metrics_http_,
      MetricsHttp::Start(
          config_.metrics,
          {.metrics = [this] { return metrics_.metrics().Write(); },
           .ready = [this] { return CheckReady(); }}));
  return absl::OkStatus();
}

void Server::WatchParts() {
  metrics_.Watch({.catalog = &store_->catalog(),
                  .authority = &store_->authority(),
                  .ledger = &store_->ledger(),
                  .space_guard = &store_->space_guard(),
                  .artifacts = &store_->artifacts(),
                  .health = &store_->health(),
                  .workers = workers_.get(),
                  .whole_file_workers = whole_file_workers_.get(),
                  .pacer = &calls_->pacer(),
                  .stream_workers = stream_workers_.get(),
                  .streams = artifact_streams_.get(),
                  .transfers = &transfer_slots_,
                  .watches = watches_.get(),
                  .acceptor = acceptor_.get(),
                  .audit = audit_.get(),
                  .ready = [this] { return CheckReady(); },
                  .certificate_expiry =
                      tls_ == nullptr ? std::function<absl::Time()>()
                                      : [this] { return tls_->expiry(); }});
  // From now on, /readyz can report that the server is ready.
  started_ = true;
  if (metrics_http_ == nullptr) return;
  log_->Info(
      absl::StrCat("metrics on http://", metrics_http_->address(), "/metrics"));
}

absl::Status Server::CheckReady() {
  if (!started_) return absl::UnavailableError("the server is starting");
  if (draining_) return absl::UnavailableError("the server is shutting down");
  if (IsLost()) return absl::UnavailableError("the server has lost its base");
  if (!store_->health().ok())
    return absl::UnavailableError("the disk failed, so changes are refused");
  return absl::OkStatus();
}

void Server::AcceptConnections() {
  connections_->Accept(*acceptor_);
  // Write the lock file only now that clients, which find the server through
  // it, can connect.
  Report("cannot write the lock file", Announce());
  log_->Info(absl::StrCat("serving ", base_path_,
                          config_.read_only ? " read-only on " : " on ",
                          absl::StrJoin(addresses_, ", ")));
}

Server::~Server() {
  if (server_ == nullptr) return;
  // If the server has not served, main() reports why.
  const bool has_served = maintainer_ != nullptr;
  draining_ = true;
  // Let load balancers see the change before connections close.
  server_->GetHealthCheckService()->SetServingStatus(false);
  Drain();
  // Close connections before gRPC shuts down. gRPC answers calls that arrive
  // during its shutdown with CANCELLED, which no client retries. Calls on a
  // closed connection get UNAVAILABLE.
  acceptor_->Stop();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + kStreamGrace));
  server_->Wait();
  store_->health().SetListener(nullptr);
  // Stop the threads that use the parts before the checkpoint is written.
  metrics_http_.reset();
  maintainer_.reset();
  Report("cannot save the checkpoint",
         store_->catalog().SaveCheckpoint(/*closing=*/true));
  acceptor_.reset();
  // Keep one byte, so that the next server can write its content even if the
  // disk is full.
  if (!config_.read_only) lock_->WriteContent("\n").IgnoreError();
  if (has_served) log_->Info("stopped");
}

// Waits until no call is running and everything is sent. gRPC's own wait would
// include streams that never end, such as watches of the health service.
void Server::Drain() {
  const auto begin = rpc::SteadyClock::now();
  const auto waited = [begin] {
    return absl::FromChrono(rpc::SteadyClock::now() - begin);
  };
  // Refuse new calls first, or the wait below might never end.
  calls_->Drain();
  while (waited() < config_.drain_timeout) {
    absl::SleepFor(absl::Milliseconds(5));
    // End uploads whose clients send nothing, because they can be resumed.
    // Streams that make progress continue.
    EndStreams({.patience = kIdleWhileDraining,
                .why = core::CutByShutdown(),
                .unread = false});
    // Once no call has run for a short while, clients have stopped sending.
    // Under load that never happens, so after a second settle for any moment
    // without a call.
    const absl::Duration quiet = std::min(calls_->IdleTime(), waited());
    if (quiet > kQuiet ||
        (quiet > absl::ZeroDuration() && waited() > kMaxWaitForQuiet))
      break;
  }
  // The drain timeout may have passed, so also end streams that make progress.
  EndStreams({.patience = absl::ZeroDuration(),
              .why = core::CutByShutdown(),
              .unread = false,
              .moving = true});
  // Closing the connections earlier would lose the last responses.
  const absl::Duration cut = waited();
  while (!calls_->all_sent() && waited() < cut + kSendGrace)
    absl::SleepFor(absl::Milliseconds(1));
}

void Server::EndStreams(const rpc::IdleRule& rule) {
  // End watches at once, because clients resume them at the next server.
  watches_->EndAll();
  calls_->live().EndThose(rule);
  artifact_streams_->live().EndThose(rule);
  archive_streams_->live().EndThose(rule);
}

void Server::NoteReset(const std::string& peer) {
  if (!acceptor_->NoteReset(peer)) return;
  log_->Warning(absl::StrCat("closed the connection of ", peer,
                             ", which cancelled too many calls too fast; new "
                             "connections of its process or address may wait"));
}

void Server::Disconnect(const std::string& peer) {
  if (!acceptor_->Disconnect(peer)) return;
  log_->Warning(absl::StrCat("closed the connection of ", peer,
                             ", which did not read for too long"));
}

void Server::EndIdleCalls() {
  calls_->EndIdle();
  artifact_streams_->EndIdle();
  archive_streams_->EndIdle();
}

bool Server::ShouldLeave() const {
  if (lost_.load(std::memory_order_relaxed)) return true;
  if (config_.idle_timeout == absl::InfiniteDuration()) return false;
  // Zero means that a call is running.
  const absl::Duration idle = calls_->IdleTime();
  return idle > config_.idle_timeout ||
         (idle > absl::ZeroDuration() && !store_->health().ok());
}

}  // namespace mlops::server
