#include "service/server/server.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/unique_fd.h"
#include "service/catalog/usage_scan.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/core/name_policy.h"
#include "service/rpc/watch_stream.h"
#include "service/server/grpc_settings.h"
#include "service/server/identity.h"
#include "service/server/listeners.h"
#include "service/server/standby.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

constexpr size_t kMaxQueuedCalls = 1024;
// Few, because each keeps a disk or a core busy.
constexpr int kWholeFileWorkers = 4;
// Clones that run at the same time.
constexpr int kCloneWorkers = 4;
// How much of the time a chore may take that reads or writes the whole index.
constexpr double kShareOfLongChores = 0.1;

// The longest description of the server that a standby waits for.
constexpr size_t kMaxHolderBytes = 1024;

constexpr char kCertificates[] = "certificates";
// How often the space on the disk is measured.
constexpr absl::Duration kDiskInterval = absl::Seconds(5);
// How often --min-free-bytes is checked, and at most one workspace purged.
constexpr absl::Duration kSpaceInterval = absl::Seconds(1);
// How often a certificate that is not valid is logged.
constexpr absl::Duration kCertificateInterval = absl::Hours(1);

// After this time without a call, clients have noticed that the server
// is stopping.
constexpr absl::Duration kQuiet = absl::Milliseconds(20);
constexpr absl::Duration kMaxWaitForQuiet = absl::Seconds(1);
// A client that sends nothing for this long does not delay the shutdown.
constexpr absl::Duration kIdleWhileDraining = absl::Milliseconds(500);
// Time to send the last responses.
constexpr absl::Duration kSendGrace = absl::Milliseconds(500);
// Time for streams of the health and reflection services.
constexpr absl::Duration kStreamGrace = absl::Milliseconds(100);

std::string HostName() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

// An error, as a sentence, that the operator can fix.
absl::Status Refusal(absl::string_view sentence) {
  return absl::FailedPreconditionError(sentence);
}

// Makes a new directory, and all parents created with it, survive a power cut.
// Directories further up may be inaccessible; they were durable before,
// so errors are ignored.
void SyncParents(const std::filesystem::path& dir) {
  for (auto parent = dir.parent_path();; parent = parent.parent_path()) {
    if (const auto opened = fs::OpenBaseDir(parent.string()); opened.ok())
      (*opened)->Sync().IgnoreError();
    if (parent == parent.root_path()) return;
  }
}

// Returns the real path of `base`. Creates the directory if it is missing and
// `read_only` is not set.
absl::StatusOr<std::string> MakeBase(const std::string& base, bool read_only) {
  std::error_code error;
  const bool made =
      !read_only && std::filesystem::create_directories(base, error);
  std::filesystem::path real;
  if (!error) real = std::filesystem::canonical(base, error);
  if (error) {
    return Refusal(absl::StrCat("cannot ", read_only ? "find" : "make",
                                " the base directory ", base, ": ",
                                error.message()));
  }
  if (!std::filesystem::is_directory(real, error))
    return Refusal(absl::StrCat(base, " is not a directory"));
  if (made) SyncParents(real);
  return real.string();
}

fs::BaseLock::Names LockNames() {
  return {.dir = std::string(core::layout::kServerDir),
          .file = std::string(core::layout::kLockFile)};
}

// Serializes processes that want to listen on one Unix socket outside a base.
// Otherwise two could both find that no server listens, and the second
// would take the name from the first. The lock lives as long as the returned
// descriptor.
base::UniqueFd LockDirOf(absl::string_view unix_address) {
  const std::filesystem::path socket(
      std::string(absl::StripPrefix(unix_address, "unix:")));
  base::UniqueFd dir(
      ::open(socket.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // The lock is held for milliseconds. Give up after 2 s, so that a process
  // that holds it longer does not block others.
  for (int i = 0;
       i < 200 && dir.ok() && ::flock(dir.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  return dir;
}

// Makes git, and tools that follow its rules, ignore the server's files.
absl::Status WriteGitignore(const fs::Dir& base) {
  ASSIGN_OR_RETURN(const auto dir, base.OpenDir(core::layout::kServerDir));
  auto file = dir->CreateFile(core::layout::kGitignoreFile);
  if (absl::IsAlreadyExists(file.status())) return absl::OkStatus();
  RETURN_IF_ERROR(file.status());
  absl::Status written = (*file)->Write("*\n");
  if (!written.ok())
    dir->RemoveFile(core::layout::kGitignoreFile).IgnoreError();
  return written;
}

// Describes the server that owns a base, from the content of its lock file,
// which is not trusted to be valid.
std::string DescribeOwner(const std::string& content) {
  const auto owner =
      nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
  const auto pid = owner.find("pid"), host = owner.find("host"),
             addresses = owner.find("addresses");
  if (pid == owner.end() || !pid->is_number_integer() || host == owner.end() ||
      !host->is_string() || addresses == owner.end() ||
      !addresses->is_array()) {
    return "another process, which the lock file does not name";
  }
  std::vector<std::string> names;
  for (const auto& address : *addresses) {
    if (address.is_string()) names.push_back(address.get<std::string>());
  }
  return absl::StrCat("workspaced with pid ", pid->get<int64_t>(), " on host ",
                      host->get<std::string>(), ", which listens on ",
                      absl::StrJoin(names, " and "));
}

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
  ASSIGN_OR_RETURN(server->base_path_, MakeBase(config.base, config.read_only));
  RETURN_IF_ERROR(server->OpenGate());
  absl::Status locked = server->LockBase();
  if (config.wait && absl::IsAlreadyExists(locked))
    locked = server->StandBy(std::move(locked), keep_waiting);
  RETURN_IF_ERROR(locked);
  RETURN_IF_ERROR(server->StartMetrics());
  RETURN_IF_ERROR(server->Listen());
  RETURN_IF_ERROR(server->OpenLog());
  RETURN_IF_ERROR(server->OpenAudit());
  RETURN_IF_ERROR(server->OpenBase());
  RETURN_IF_ERROR(server->OpenCatalog());
  RETURN_IF_ERROR(server->OpenLeases());
  RETURN_IF_ERROR(server->MakeCore());
  server->MakeCalls();
  server->MakeServices();
  RETURN_IF_ERROR(server->StartGrpc());
  server->WatchParts();
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

absl::Status Server::LockBase() {
  if (config_.read_only) {
    auto watch = fs::BaseLock::Watch(base_path_);
    if (!watch.ok())
      return Refusal(absl::StrCat("cannot read the base directory ",
                                  watch.status().message()));
    lock_ = *std::move(watch);
    return absl::OkStatus();
  }
  const auto served = [this] {
    return absl::AlreadyExistsError(absl::StrCat(
        base_path_, " is already served by ",
        DescribeOwner(fs::BaseLock::ReadContent(base_path_, LockNames()))));
  };
  const auto refused = [this](const absl::Status& why) {
    const std::string sentence = absl::StrCat("cannot lock the base directory ",
                                              base_path_, ": ", why.message());
    if (!absl::IsPermissionDenied(why) ||
        ::access(base_path_.c_str(), R_OK | X_OK) != 0)
      return Refusal(sentence);
    return absl::PermissionDeniedError(
        absl::StrCat("cannot write in the base directory ", base_path_, " (",
                     why.message(), "): to read from it, use --read-only"));
  };
  auto lock = fs::BaseLock::Acquire(base_path_, LockNames());
  if (absl::IsFailedPrecondition(lock.status())) return served();
  if (!lock.ok()) return refused(lock.status());
  // If directories cannot be locked and the lock file was removed,
  // only an answering socket reveals another server.
  if (const auto socket = UnixSocketAddress(base_path_);
      socket.ok() && IsAnswered(*socket))
    return served();
  absl::Status made = (*lock)->MakeFile();
  if (absl::IsFailedPrecondition(made)) return served();
  // Start even if the lock file cannot be written: deletions free space.
  if (!made.ok() && !absl::IsResourceExhausted(made)) return refused(made);
  lock_ = *std::move(lock);
  return absl::OkStatus();
}

absl::Status Server::StandBy(absl::Status locked,
                             const KeepWaiting& keep_waiting) {
  // Not the log file, which the server that serves may be writing.
  ASSIGN_OR_RETURN(log_, observe::Log::Open({}));
  ASSIGN_OR_RETURN(auto acceptor, ListenOn(listen_));
  ASSIGN_OR_RETURN(const auto standby,
                   Standby::Start(config_, std::move(acceptor), [this] {
                     return metrics_.metrics().Write();
                   }));
  listen_ = standby->addresses();
  const std::string state =
      listen_.empty()
          ? "stands by"
          : absl::StrCat("stands by on ", absl::StrJoin(listen_, " and "));
  for (; absl::IsAlreadyExists(locked); locked = LockBase()) {
    const std::string holder = base::Echo(locked.message(), kMaxHolderBytes);
    // A standby does not know who calls, so strangers must not learn more.
    standby->SetRefusal(core::StandsBy(
        HasIdentity(config_) ? "another server serves" : holder));
    if (!keep_waiting(absl::StrCat(state, ": ", holder)))
      return absl::CancelledError("stopped while standing by");
    Report("cannot read a file again", CheckGate());
    standby->ReloadTls();
  }
  return locked;
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
  // Only the shared socket of read-only servers needs the lock.
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
    // The disk is too full for a socket in the base, so use one outside.
    ASSIGN_OR_RETURN(addresses.front(), SocketAddressOutside(base_path_));
    acceptor = ListenOn(addresses);
  }
  if (!acceptor.ok()) return Refusal(acceptor.status().message());
  acceptor_ = *std::move(acceptor);
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
  options.follow_links =
      std::filesystem::weakly_canonical(parent, ignored) != server_dir;
  // If the disk was too full for the directory, log to standard error.
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

// Users who can write to the base can change what the server reads and serves,
// and encryption alone does not tell who connects.
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
  if (lock_->IsStillNamed()) return false;
  lost_.store(true, std::memory_order_relaxed);
  return true;
}

absl::Status Server::CheckMayChange() {
  if (IsLost()) return core::ShuttingDown();
  return config_.read_only ? core::ReadOnly(base_path_) : absl::OkStatus();
}

absl::Status Server::OpenBase() {
  ASSIGN_OR_RETURN(
      base_, fs::OpenBaseDir(base_path_, {.portable = config_.portable_fs,
                                          .on_sync = metrics_.on_sync()}));
  health_ =
      std::make_shared<core::DiskHealth>([this] { return CheckMayChange(); });
  return absl::OkStatus();
}

absl::Status Server::OpenCatalog() {
  auto catalog = catalog::FileCatalog::Open(
      base_, base_path_,
      {.purge_delay = config_.purge_delay,
       .log = [this](absl::string_view line) { log_->Warning(line); },
       .changes = &changes_,
       .health = health_,
       .read_only = config_.read_only});
  if (!catalog.ok()) {
    return Refusal(absl::StrCat("cannot read the base directory ", base_path_,
                                ": ", catalog.status().message()));
  }
  catalog_ = *std::move(catalog);
  return absl::OkStatus();
}

absl::Status Server::OpenLeases() {
  lease_files_ = std::make_unique<catalog::LeaseFiles>(base_, health_);
  leases_ = std::make_unique<core::Leases>(
      core::Leases::Options{.store = lease_files_.get(),
                            .await_changes =
                                [this](const core::ProjectName& project) {
                                  artifacts_->AwaitChanges(project);
                                },
                            .on_change =
                                [this](const core::ProjectName& project) {
                                  catalog_->Announce(project);
                                },
                            .read_only = config_.read_only});
  // The server that may change the base knows the leases.
  if (config_.read_only) return absl::OkStatus();
  auto stored = lease_files_->Load([this](const absl::Status& problem) {
    Report("cannot read a lease", problem);
  });
  if (!stored.ok()) {
    return Refusal(absl::StrCat("cannot read the leases of ", base_path_, ": ",
                                stored.status().message()));
  }
  for (const core::StoredLease& lease : *stored) leases_->Restore(lease);
  return absl::OkStatus();
}

absl::Status Server::MakeCore() {
  auto names = core::NamePolicy::Parse(config_.project_pattern);
  if (!names.ok())
    return Refusal(
        absl::StrCat("--project-pattern ", names.status().message()));
  space_guard_ = std::make_unique<SpaceGuard>(SpaceGuard::Options{
      .min_free_bytes = config_.read_only ? 0 : config_.min_free_bytes,
      .purge_early = config_.purge_early,
      .free_bytes = [this] { return FreeBytes(base_path_); },
      .is_removing = [this] { return catalog_->counts().removing > 0; },
      .purge_oldest = [this] { return catalog_->PurgeOldest(); },
      .log = [this](absl::string_view line) { log_->Warning(line); }});
  ledger_ = std::make_shared<core::UsageLedger>(
      metrics_.Measured(
          catalog::MakeUsageScanner(base_, base_path_, base::SystemClock())),
      core::UsageLedger::Options{
          .on_flip = [this](const core::Workspace& workspace) {
            catalog_->Announce(workspace.project);
          }});
  artifacts_ = std::make_unique<artifacts::Artifacts>(
      catalog_.get(), base_,
      artifacts::UploadOptions{
          .health = health_, .ledger = ledger_, .leases = leases_.get()});
  // Every scan goes through the ledger, which learns from it.
  authority_ = std::make_unique<core::Authority>(
      catalog_.get(),
      [this](const core::Workspace& workspace, bool counts_only,
             core::Cancelled cancelled) {
        return ledger_->Scan(workspace, counts_only, cancelled);
      },
      base_path_, base::SystemClock(), base::SystemSteadyClock(),
      leases_.get());
  authority_->SetUsageLedger(ledger_.get());
  authority_->SetNamePolicy(*std::move(names));
  stage_ = std::make_unique<artifacts::Stage>(base_, health_);
  templates_ = std::make_unique<artifacts::Templates>(base_, stage_.get());
  authority_->SetTemplates(templates_.get(), config_.default_template);
  archives_ = std::make_unique<archive::Archives>(
      authority_.get(), stage_.get(), base_, base_path_);
  WarnOfTemplate();
  return absl::OkStatus();
}

void Server::WarnOfTemplate() {
  if (config_.default_template.empty() || config_.read_only) return;
  const auto loaded = templates_->Load(config_.default_template);
  if (loaded.ok()) return;
  log_->Warning(absl::StrCat(
      "no workspace can be created without the name of a template: ",
      "--default-template: ", loaded.status().message()));
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
      // gRPC's names of headers are in lower case.
      .proxy_header = absl::AsciiStrToLower(config_.proxy_header)};
}

void Server::MakeCalls() {
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
      artifacts_.get(), calls_.get(), stream_workers_.get(),
      receive_quota_.get(), config_.max_artifact_streams);
  archive_streams_ = std::make_unique<rpc::ArchiveStreams>(
      archives_.get(), calls_.get(), whole_file_workers_.get(),
      receive_quota_.get(), &transfer_slots_);
  watches_ = std::make_unique<rpc::WatchHub>(
      catalog_.get(), &changes_,
      rpc::WatchHub::Options{
          .max_watchers = static_cast<size_t>(config_.max_watchers),
          .lease_of =
              [this](const core::Workspace& workspace) {
                return authority_->LeaseOf(workspace);
              },
          .is_over_quota =
              [this](const core::Workspace& workspace) {
                return ledger_->is_over(workspace);
              }});
  std::vector<std::string> features;
  if (config_.read_only) features.emplace_back("read-only");
  if (!config_.project_pattern.empty())
    features.emplace_back("project-pattern");
  service_ = std::make_unique<rpc::WorkspaceService>(
      rpc::ServiceParts{.authority = authority_.get(),
                        .artifacts = artifact_streams_.get(),
                        .archives = archive_streams_.get(),
                        .watches = watches_.get(),
                        .calls = calls_.get(),
                        .templates = templates_.get(),
                        .clones = {.authority = authority_.get(),
                                   .stage = stage_.get(),
                                   .slots = &transfer_slots_,
                                   .workers = clone_workers_.get(),
                                   .base = base_}},
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
  health_->SetListener(
      [this](const absl::Status& failure) { StopServing(failure); });
  return absl::OkStatus();
}

// Before the base is read, which may take long: probes ask whether the process
// is alive.
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
  metrics_.Watch({.catalog = catalog_.get(),
                  .authority = authority_.get(),
                  .ledger = ledger_.get(),
                  .space_guard = space_guard_.get(),
                  .artifacts = artifacts_.get(),
                  .health = health_.get(),
                  .workers = workers_.get(),
                  .whole_file_workers = whole_file_workers_.get(),
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
  started_ = true;
  if (metrics_http_ == nullptr) return;
  log_->Info(
      absl::StrCat("metrics on http://", metrics_http_->address(), "/metrics"));
}

absl::Status Server::CheckReady() {
  if (!started_) return absl::UnavailableError("the server is starting");
  if (draining_) return absl::UnavailableError("the server is shutting down");
  if (IsLost()) return absl::UnavailableError("the server has lost its base");
  if (!health_->ok())
    return absl::UnavailableError("the disk failed, so changes are refused");
  return absl::OkStatus();
}

void Server::AcceptConnections() {
  connections_->Accept(*acceptor_);
  // Clients find the server through the lock file, so write it only now
  // that they can connect.
  Report("cannot write the lock file", Announce());
  log_->Info(absl::StrCat("serving ", base_path_,
                          config_.read_only ? " read-only on " : " on ",
                          absl::StrJoin(addresses_, ", ")));
}

void Server::StartChores() {
  upkeep_ = std::make_unique<catalog::Upkeep>(
      catalog_.get(),
      fs::MakeWatcher(base_path_, core::layout::kRecord,
                      {.portable = config_.portable_fs}),
      catalog::Upkeep::Options{});
  maintainer_ = std::make_unique<Maintainer>(
      Chores(), Maintainer::Options{.report = [this](absl::string_view failure,
                                                     const absl::Status& why) {
        Report(failure, why);
      }});
}

// The periodic work of the whole server, in the order of each round.
std::vector<Maintainer::Chore> Server::Chores() {
  return {
      {.failure = "the clock jumped",
       .run = [this] { return upkeep_->WatchClock(); }},
      {.failure = "cannot read the names in the base directory",
       .run = [this] { return upkeep_->RefreshNames(); },
       .max_share = kShareOfLongChores},
      {.failure = "edits by hand may be detected late",
       .run = [this] { return upkeep_->RefreshRecords(); }},
      {.failure = "cannot empty the trash",
       .run = [this] { return upkeep_->SweepTrash(); }},
      {.failure = "cannot end leases",
       .run =
           [this] { return authority_->EndExpiredLeases(), absl::OkStatus(); }},
      {.failure = "no longer serving", .run = [this] { return WatchBase(); }},
      // Retries, in case the disk was full before.
      {.failure = "cannot write the lock file",
       .run = [this] { return Announce(); }},
      {.failure = "cannot read a file again",
       .run = [this] { return CheckGate(); }},
      {.failure = "the certificate of the server is not valid",
       .run = [this] { return CheckCertificate(); },
       .interval = kCertificateInterval},
      {.failure = "cannot measure the disk",
       .run =
           [this] {
             return metrics_.MeasureDisk(base_path_), absl::OkStatus();
           },
       .interval = kDiskInterval},
      {.failure = "too little space on the disk",
       .run = [this] { return space_guard_->Check(); },
       .interval = kSpaceInterval},
      {.failure = "cannot sweep the artifacts",
       .run = [this] { return artifacts_->SweepSome(), absl::OkStatus(); }},
      {.failure = "cannot save the checkpoint",
       .run = [this] { return upkeep_->SaveCheckpoint(); },
       .max_share = kShareOfLongChores},
  };
}

absl::Status Server::Announce() {
  announced_ = announced_ || config_.read_only;
  if (announced_ || IsLost()) return absl::OkStatus();
  RETURN_IF_ERROR(lock_->MakeFile());
  const nlohmann::json owner = {
      {"pid", ::getpid()},
      {"host", HostName()},
      {"addresses", addresses_},
      {"version", std::string(kVersion)},
      {"start_time", absl::FormatTime(absl::Now(), absl::UTCTimeZone())}};
  // A path may contain any bytes. Replacing invalid ones is harmless,
  // because clients try the base's own socket first.
  const std::string text =
      owner.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  RETURN_IF_ERROR(lock_->WriteContent(text + "\n"));
  // Best effort, except that a full disk is retried.
  if (absl::Status written = WriteGitignore(*base_);
      absl::IsResourceExhausted(written))
    return written;
  announced_ = true;
  return absl::OkStatus();
}

void Server::ReportFile(const std::string& what, const absl::Status& status) {
  reloads_.at(what).Count(status.ok() ? absl::StatusOr<bool>(true) : status);
  if (status.ok()) {
    log_->Info(absl::StrCat("read the ", what, " again"));
  } else {
    // Not Problem(), which would leave out the next error of an operator who is
    // still editing. There is one line per change of the file.
    log_->Warning(
        absl::StrCat("keeping the previous ", what, ": ", status.message()));
  }
}

absl::Status Server::CheckGate() {
  gate_->Check(
      [this](const base::ReloadedFile& file, const absl::Status& status) {
        ReportFile(file.what(), status);
      });
  if (tls_ == nullptr) return absl::OkStatus();
  const absl::StatusOr<bool> changed = tls_->Reload();
  if (!changed.ok() || *changed) ReportFile(kCertificates, changed.status());
  return absl::OkStatus();
}

absl::Status Server::CheckCertificate() {
  return tls_ == nullptr ? absl::OkStatus() : tls_->CheckValidity();
}

void Server::Reload(const absl::StatusOr<Config>& config) {
  if (!config.ok()) {
    return log_->Warning(absl::StrCat("keeping the previous settings: ",
                                      config.status().message()));
  }
  gate_->Reload(
      [this](const base::ReloadedFile& file, const absl::Status& status) {
        ReportFile(file.what(), status);
      });
  const std::vector<std::string> changed = ChangedSettings(config_, *config);
  if (changed.empty()) return;
  log_->Warning(
      absl::StrCat("these settings have changed, and only a restart "
                   "applies them: ",
                   absl::StrJoin(changed, ", ")));
}

void Server::StopServing(const absl::Status& why) {
  server_->GetHealthCheckService()->SetServingStatus(false);
  log_->Problem("no longer serving", why);
}

void Server::Report(absl::string_view what, const absl::Status& problem) {
  if (problem.ok()) return;
  // Expected: the server may not change anything.
  const std::string reason = base::GetReason(problem);
  if (config_.read_only && reason == "READ_ONLY") return;
  if (lost_ && reason == "SHUTTING_DOWN") return;
  log_->Problem(what, problem);
}

absl::Status Server::WatchBase() {
  if (lost_told_ || !IsLost()) return absl::OkStatus();
  lost_told_ = true;
  server_->GetHealthCheckService()->SetServingStatus(false);
  return absl::AbortedError(absl::StrCat(
      base_path_, " or its lock file was moved, removed or replaced"));
}

Server::~Server() {
  if (server_ == nullptr) return;
  // Otherwise main() says why it did not start.
  const bool has_served = maintainer_ != nullptr;
  draining_ = true;
  // Load balancers should see the change before connections close.
  server_->GetHealthCheckService()->SetServingStatus(false);
  Drain();
  // Close connections before gRPC shuts down. gRPC answers calls that
  // arrive during its shutdown with CANCELLED, which no client retries;
  // calls on a closed connection get UNAVAILABLE.
  acceptor_->Stop();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + kStreamGrace));
  server_->Wait();
  health_->SetListener(nullptr);
  metrics_http_.reset();
  maintainer_.reset();
  Report("cannot save the checkpoint",
         catalog_->SaveCheckpoint(/*closing=*/true));
  acceptor_.reset();
  // Not empty, so that the next server can write its content even if
  // the disk is full.
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
  calls_->Drain();
  while (waited() < config_.drain_timeout) {
    absl::SleepFor(absl::Milliseconds(5));
    // End uploads whose client sends nothing, because they can be resumed.
    // Streams that make progress continue.
    EndStreams({.patience = kIdleWhileDraining,
                .why = core::CutByShutdown(),
                .unread = false});
    // Once no call has run for a short while, clients have stopped sending.
    // Under load that never happens, so settle for a moment without a call
    // after a second.
    const absl::Duration quiet = std::min(calls_->IdleTime(), waited());
    if (quiet > kQuiet ||
        (quiet > absl::ZeroDuration() && waited() > kMaxWaitForQuiet))
      break;
  }
  // The drain timeout may have passed: end also streams that make progress.
  EndStreams({.patience = absl::ZeroDuration(),
              .why = core::CutByShutdown(),
              .unread = false,
              .moving = true});
  const absl::Duration cut = waited();
  while (!calls_->all_sent() && waited() < cut + kSendGrace)
    absl::SleepFor(absl::Milliseconds(1));
}

void Server::EndStreams(const rpc::IdleRule& rule) {
  // Watchers resume at the next server, so they end at once.
  watches_->EndAll();
  calls_->live().EndThose(rule);
  artifact_streams_->live().EndThose(rule);
  archive_streams_->live().EndThose(rule);
}

void Server::NoteReset(const std::string& peer) {
  if (!acceptor_->NoteReset(peer)) return;
  log_->Warning(absl::StrCat("closed the connection of ", peer,
                             ", which cancelled too many calls too fast"));
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
  const absl::Duration idle = calls_->IdleTime();
  return idle > config_.idle_timeout ||
         (idle > absl::ZeroDuration() && !health_->ok());
}

}  // namespace mlops::server
