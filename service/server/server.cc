#include "service/server/server.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server_builder.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/status_macros.h"
#include "service/catalog/usage_scan.h"
#include "service/core/layout.h"
#include "service/server/grpc_settings.h"
#include "service/server/listeners.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

constexpr size_t kMaxQueuedCalls = 1024;

// Without a call for so long, clients have heard that the server is leaving.
constexpr absl::Duration kQuiet = absl::Milliseconds(20);
constexpr absl::Duration kMaxWaitForQuiet = absl::Seconds(1);
// A client that sends nothing for so long does not hold up the end.
constexpr absl::Duration kIdleWhileDraining = absl::Milliseconds(500);
// For the last answers to be sent.
constexpr absl::Duration kSendGrace = absl::Milliseconds(500);
// For streams of health and reflection.
constexpr absl::Duration kStreamGrace = absl::Milliseconds(100);

std::string HostName() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

// A sentence about what the operator can mend.
absl::Status Refusal(absl::string_view sentence) { return absl::FailedPreconditionError(sentence); }

// Makes a new directory survive a power cut with all that was made above it. What is above those may be nobody's to
// open or sync, and needs it no more.
void SyncParents(const std::filesystem::path& dir) {
  for (auto parent = dir.parent_path();; parent = parent.parent_path()) {
    if (const auto opened = fs::OpenBaseDir(parent.string()); opened.ok()) (*opened)->Sync().IgnoreError();
    if (parent == parent.root_path()) return;
  }
}

// The real path of `base`, which is made if missing.
absl::StatusOr<std::string> MakeBase(const std::string& base) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(base, error);
  std::filesystem::path real;
  if (!error) real = std::filesystem::canonical(base, error);
  if (error) return Refusal(absl::StrCat("cannot make the base directory ", base, ": ", error.message()));
  if (!std::filesystem::is_directory(real, error)) return Refusal(absl::StrCat(base, " is not a directory"));
  if (made) SyncParents(real);
  return real.string();
}

// Who serves a base already, from what the lock file says, which may be anything.
std::string DescribeOwner(const std::string& content) {
  const auto owner = nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
  const auto pid = owner.find("pid"), host = owner.find("host"), addresses = owner.find("addresses");
  if (pid == owner.end() || !pid->is_number_integer() || host == owner.end() || !host->is_string() ||
      addresses == owner.end() || !addresses->is_array()) {
    return "another workspaced that is just starting";
  }
  std::vector<std::string> names;
  for (const auto& address : *addresses) {
    if (address.is_string()) names.push_back(address.get<std::string>());
  }
  return absl::StrCat("workspaced with pid ", pid->get<int64_t>(), " on host ", host->get<std::string>(),
                      ", which listens on ", absl::StrJoin(names, " and "));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Config& config) {
  auto server = std::unique_ptr<Server>(new Server(config));
  for (const std::string& address : config.listen) RETURN_IF_ERROR(CheckAddress(address, config.insecure));
  ASSIGN_OR_RETURN(server->base_path_, MakeBase(config.base));
  RETURN_IF_ERROR(server->LockBase());
  ASSIGN_OR_RETURN(server->log_, observe::Log::Open({.file = config.log_file, .calls = config.log_calls}));
  RETURN_IF_ERROR(server->OpenCatalog());
  RETURN_IF_ERROR(server->Listen());
  RETURN_IF_ERROR(server->Announce());
  return server;
}

absl::Status Server::LockBase() {
  const std::string dir = absl::StrCat(base_path_, "/", core::layout::kServerDir);
  std::error_code error;
  std::filesystem::create_directory(dir, error);
  if (error) return Refusal(absl::StrCat("cannot write in the base directory ", base_path_, ": ", error.message()));
  auto lock = fs::LockFile::Acquire(absl::StrCat(dir, "/", core::layout::kLockFile));
  if (absl::IsFailedPrecondition(lock.status())) {
    return absl::AlreadyExistsError(
        absl::StrCat(base_path_, " is already served by ",
                     DescribeOwner(fs::LockFile::ReadContent(absl::StrCat(dir, "/", core::layout::kLockFile)))));
  }
  if (!lock.ok()) return Refusal(absl::StrCat("cannot lock the base directory: ", lock.status().message()));
  lock_ = *std::move(lock);
  return absl::OkStatus();
}

absl::Status Server::OpenCatalog() {
  const fs::OpenOptions open_options{.portable = config_.portable_fs};
  ASSIGN_OR_RETURN(auto catalog_dir, fs::OpenBaseDir(base_path_, open_options));
  ASSIGN_OR_RETURN(auto artifacts_dir, fs::OpenBaseDir(base_path_, open_options));
  ASSIGN_OR_RETURN(std::shared_ptr<const fs::Dir> scan_dir, fs::OpenBaseDir(base_path_, open_options));
  const auto health = std::make_shared<core::DiskHealth>();
  auto catalog = catalog::FileCatalog::Open(std::move(catalog_dir), base_path_,
                                            {.purge_delay = config_.purge_delay, .health = health});
  if (!catalog.ok()) {
    return Refusal(absl::StrCat("cannot read the base directory ", base_path_, ": ", catalog.status().message()));
  }
  catalog_ = *std::move(catalog);
  artifacts_ = std::make_unique<core::Artifacts>(catalog_.get(), std::move(artifacts_dir),
                                                 core::UploadOptions{.health = health});
  maintainer_ = std::make_unique<catalog::Maintainer>(catalog_.get(),
                                                      fs::MakeWatcher(base_path_, core::layout::kRecord, open_options),
                                                      [this] { artifacts_->SweepSome(); });
  authority_ = std::make_unique<core::Authority>(
      catalog_.get(), catalog::MakeUsageScanner(std::move(scan_dir), base_path_, base::SystemClock()), base_path_);
  workers_ = std::make_unique<base::ThreadPool>(config_.workers, kMaxQueuedCalls);
  stream_workers_ = std::make_unique<base::ThreadPool>(config_.workers, 2 * config_.max_artifact_streams);
  const auto on_cancel = [this](const std::string& peer) { NoteReset(peer); };
  calls_ = std::make_unique<rpc::Calls>(
      workers_.get(), log_.get(), rpc::CallOptions{.idle_timeout = config_.client_timeout, .on_cancel = on_cancel});
  artifact_streams_ = std::make_unique<rpc::ArtifactStreams>(artifacts_.get(), calls_.get(), stream_workers_.get(),
                                                             config_.max_artifact_streams);
  service_ = std::make_unique<rpc::WorkspaceService>(authority_.get(), artifact_streams_.get(), calls_.get(),
                                                     rpc::ServerFacts{.version = std::string(kVersion),
                                                                      .base_path = base_path_,
                                                                      .start_time = absl::Now(),
                                                                      .purge_delay = config_.purge_delay});
  return absl::OkStatus();
}

absl::Status Server::Listen() {
  ASSIGN_OR_RETURN(std::string socket, UnixSocketAddress(base_path_));
  std::vector<std::string> addresses = {std::move(socket)};
  addresses.insert(addresses.end(), config_.listen.begin(), config_.listen.end());
  ASSIGN_OR_RETURN(acceptor_, Acceptor::Listen(std::move(addresses)));
  addresses_ = acceptor_->addresses();

  grpc::ServerBuilder builder;
  ApplyGrpcSettings(builder, config_.max_artifact_streams);
  connections_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, grpc::InsecureServerCredentials());
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) return Refusal("gRPC does not start");
  server_->GetHealthCheckService()->SetServingStatus(rpc::pb::WorkspaceService::service_full_name(), true);
  acceptor_->Start([this](int listener_fd, int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.listener_fd = listener_fd;
    connection.fd = fd;
    connections_->HandleNewConnection(&connection);
  });
  return absl::OkStatus();
}

// Clients find the server by what stands in the lock file; it is written only now that they can connect.
absl::Status Server::Announce() {
  const nlohmann::json owner = {{"pid", ::getpid()},
                                {"host", HostName()},
                                {"addresses", addresses_},
                                {"version", std::string(kVersion)},
                                {"start_time", absl::FormatTime(absl::Now(), absl::UTCTimeZone())}};
  RETURN_IF_ERROR(lock_->WriteContent(owner.dump() + "\n"));
  log_->Info(absl::StrCat("serving ", base_path_, " on ", absl::StrJoin(addresses_, ", ")));
  return absl::OkStatus();
}

Server::~Server() {
  if (server_ == nullptr) return;
  // Whoever balances load sees the change before connections close.
  server_->GetHealthCheckService()->SetServingStatus(false);
  Drain();
  // Before gRPC shuts down: it answers what arrives then with CANCELLED, which no client tries again. A connection that
  // is closed is UNAVAILABLE.
  acceptor_->Stop();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + kStreamGrace));
  server_->Wait();
  acceptor_.reset();
  // Not empty, or the next server could find no room to write who it is.
  lock_->WriteContent("\n").IgnoreError();
  log_->Info("stopped");
}

// Waits for the calls that have begun, until it is quiet and everything was sent. gRPC does not know which streams are
// worth waiting for: a watcher of health would hold up every stop.
void Server::Drain() {
  const auto begin = rpc::SteadyClock::now();
  const auto waited = [begin] { return absl::FromChrono(rpc::SteadyClock::now() - begin); };
  calls_->Drain();
  while (waited() < config_.drain_timeout) {
    absl::SleepFor(absl::Milliseconds(5));
    // A client that has not sent the next part of an upload can resume it. Streams that move go on.
    EndStreams({.patience = kIdleWhileDraining, .why = core::CutByShutdown(), .unread = false});
    const absl::Duration quiet = std::min(calls_->IdleTime(), waited());
    if (quiet > kQuiet || (quiet > absl::ZeroDuration() && waited() > kMaxWaitForQuiet)) break;
  }
  EndStreams({.patience = absl::ZeroDuration(), .why = core::CutByShutdown(), .unread = false, .moving = true});
  const absl::Duration cut = waited();
  while (!calls_->all_sent() && waited() < cut + kSendGrace) absl::SleepFor(absl::Milliseconds(1));
}

void Server::EndStreams(const rpc::IdleRule& rule) {
  calls_->live().EndThose(rule);
  artifact_streams_->live().EndThose(rule);
}

void Server::NoteReset(const std::string& peer) {
  if (!acceptor_->NoteReset(peer)) return;
  log_->Warning(absl::StrCat("closed the connection of ", peer, ", which cancelled too many calls too fast"));
}

void Server::CheckHealth() {
  calls_->EndIdle();
  artifact_streams_->EndIdle();
  if (!catalog_->healthy()) server_->GetHealthCheckService()->SetServingStatus(false);
}

bool Server::IsIdle() const {
  if (config_.idle_timeout == absl::InfiniteDuration()) return false;
  // Where the base was, there is nothing to call for, or another server that was started since.
  const bool is_lost = calls_->IdleTime() > absl::ZeroDuration() && !lock_->IsStillNamed();
  return is_lost || calls_->IdleTime() > config_.idle_timeout;
}

}  // namespace mlops::server
