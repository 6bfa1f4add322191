#include "service/server/server_metrics.h"

#include <sys/statvfs.h>

#include <chrono>
#include <limits>
#include <utility>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "grpcpp/grpcpp.h"
#include "mlops/workspace/v1/error_reason.pb.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "service/server/version.h"

namespace mlops::server {
namespace {

namespace pb = mlops::workspace::v1;
using observe::CallMetrics;
using observe::Metrics;

const google::protobuf::ServiceDescriptor& Service() {
  return *pb::Workspace::descriptor()->file()->service(0);
}

CallMetrics::Type TypeOf(const google::protobuf::MethodDescriptor& method) {
  if (method.client_streaming()) {
    return method.server_streaming() ? CallMetrics::Type::kBidiStream
                                     : CallMetrics::Type::kClientStream;
  }
  return method.server_streaming() ? CallMetrics::Type::kServerStream
                                   : CallMetrics::Type::kUnary;
}

std::vector<CallMetrics::MethodName> MethodNames() {
  std::vector<CallMetrics::MethodName> names;
  for (int i = 0; i < Service().method_count(); ++i) {
    const auto& method = *Service().method(i);
    names.push_back({.name = method.name(), .type = TypeOf(method)});
  }
  return names;
}

std::vector<std::string> ReasonNames() {
  std::vector<std::string> names;
  const auto& reasons = *pb::ErrorReason_descriptor();
  for (int i = 0; i < reasons.value_count(); ++i) {
    if (reasons.value(i)->number() != pb::ERROR_REASON_UNSPECIFIED)
      names.push_back(reasons.value(i)->name());
  }
  return names;
}

std::vector<absl::Duration> Bounds(std::initializer_list<double> seconds) {
  std::vector<absl::Duration> bounds;
  for (const double bound : seconds) bounds.push_back(absl::Seconds(bound));
  return bounds;
}

// The buckets range from a fast disk to one that hangs.
std::vector<absl::Duration> SyncBounds() {
  return Bounds({100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3,
                 50e-3, 0.1, 0.25, 0.5, 1, 5, 30});
}

// The buckets range from a small workspace to one with millions of files.
std::vector<absl::Duration> ScanBounds() {
  return Bounds({100e-6, 1e-3, 10e-3, 0.1, 0.5, 1, 5, 10, 60, 300});
}

// Returns a Read that applies `read` to `object`, which must outlive it.
template <typename Object, typename Function>
Metrics::Read Of(const Object* object, Function read) {
  return [object, read] { return static_cast<double>(read(*object)); };
}

// The following overloads add the metrics of one object.

void Add(Metrics& metrics, const catalog::FileCatalog& catalog) {
  using Counts = catalog::FileCatalog::Counts;
  const auto add = [&](const char* state, size_t Counts::*count) {
    metrics.AddGauge(
        {"workspaced_workspaces",
         "Workspaces: live, deleted (in the trash), unreachable (their record "
         "cannot be read), removing (permanently, not done yet)."},
        {{"state", state}},
        Of(&catalog, [count](const auto& of) { return of.counts().*count; }));
  };
  add("live", &Counts::live);
  add("deleted", &Counts::deleted);
  add("unreachable", &Counts::unreachable);
  add("removing", &Counts::removing);
}

constexpr char kCacheBytes[] = "workspaced_cache_bytes";
constexpr char kCacheHelp[] =
    "Memory of bounded caches: statuses, checksums, names in directories, "
    "changes that watchers can resume after, encoded changes.";

void Add(Metrics& metrics, const core::Authority& authority) {
  metrics.AddGauge(
      {kCacheBytes, kCacheHelp}, {{"cache", "statuses"}},
      Of(&authority, [](const auto& of) { return of.cache_bytes(); }));
  metrics.AddGauge(
      {"workspaced_leases", "Leases on workspaces."}, {},
      Of(&authority, [](const auto& of) { return of.lease_count(); }));
}

void Add(Metrics& metrics, const core::UsageLedger& ledger) {
  metrics.AddGauge({kCacheBytes, kCacheHelp}, {{"cache", "usage"}},
                   Of(&ledger, [](const auto& of) { return of.bytes(); }));
  metrics.AddGauge(
      {"workspaced_over_quota_workspaces",
       "Workspaces that used more than their quota when their files were last "
       "counted or changed by the service."},
      {}, Of(&ledger, [](const auto& of) { return of.over_quota_count(); }));
}

void Add(Metrics& metrics, const SpaceGuard& guard) {
  metrics.AddGauge(
      {"workspaced_disk_low", "1 if the disk has fewer than --min-free-bytes."},
      {}, Of(&guard, [](const auto& of) { return of.is_low(); }));
  metrics.AddCounter(
      {"workspaced_purged_early_total",
       "Workspaces purged before their purge time, because of --purge-early."},
      {}, Of(&guard, [](const auto& of) { return of.purged_early(); }));
}

void Add(Metrics& metrics, const artifacts::Artifacts& artifacts) {
  metrics.AddGauge(
      {kCacheBytes, kCacheHelp}, {{"cache", "checksums"}},
      Of(&artifacts, [](const auto& of) { return of.checksum_cache_bytes(); }));
  metrics.AddGauge(
      {kCacheBytes, kCacheHelp}, {{"cache", "names"}},
      Of(&artifacts, [](const auto& of) { return of.name_cache_bytes(); }));
  metrics.AddGauge({"workspaced_unfinished_uploads",
                    "Uploads that can be resumed, counted every ten minutes."},
                   {}, Of(&artifacts, [](const auto& of) {
                     return of.unfinished_uploads();
                   }));
}

void Add(Metrics& metrics, const char* name, const base::ThreadPool& pool) {
  metrics.AddGauge({"workspaced_queued_tasks", "Tasks that wait for a thread."},
                   {{"pool", name}},
                   Of(&pool, [](const auto& of) { return of.queued(); }));
  metrics.AddGauge({"workspaced_pool_threads", "Threads of a pool."},
                   {{"pool", name}},
                   Of(&pool, [](const auto& of) { return of.threads(); }));
}

void Add(Metrics& metrics, const rpc::Pacer& pacer) {
  metrics.AddCounter({"workspaced_paced_calls_total",
                      "Calls, and parts of streams, that waited because their "
                      "caller had many in flight while others called."},
                     {},
                     Of(&pacer, [](const auto& of) { return of.scheduled(); }));
}

void Add(Metrics& metrics, const rpc::ArtifactStreams& streams) {
  metrics.AddGauge(
      {"workspaced_artifact_streams",
       "Streams that read or write an artifact now."},
      {}, Of(&streams, [](const auto& of) { return of.slots().running(); }));
  metrics.AddGauge(
      {"workspaced_artifact_streams_limit", "Maximum number of such streams."},
      {}, Of(&streams, [](const auto& of) { return of.slots().max(); }));
}

void Add(Metrics& metrics, const rpc::TransferSlots& transfers) {
  metrics.AddGauge(
      {"workspaced_transfers_limit",
       "Maximum number of clones, exports and imports together."},
      {}, Of(&transfers, [](const auto& of) { return of.max_transfers(); }));
  using Counts = rpc::TransferSlots::Counts;
  const auto add = [&](const char* name, rpc::TransferKind kind) {
    const auto read = [&transfers, kind](auto Counts::*count) {
      return Of(&transfers, [kind, count](const auto& of) {
        return of.counts(kind).*count;
      });
    };
    metrics.AddGauge(
        {"workspaced_transfers", "Whole workspaces being copied now."},
        {{"kind", name}}, read(&Counts::running));
    metrics.AddCounter({"workspaced_transfer_bytes_total",
                        "Bytes of archives exported and imported, and of files "
                        "cloned, also by transfers that failed."},
                       {{"kind", name}}, read(&Counts::size_bytes));
    const auto add_result = [&](const char* result, uint64_t Counts::*count) {
      metrics.AddCounter(
          {"workspaced_transfers_total",
           "Transfers that ended, and those refused because too many ran."},
          {{"kind", name}, {"result", result}}, read(count));
    };
    add_result("success", &Counts::succeeded);
    add_result("failure", &Counts::failed);
    add_result("refused", &Counts::refused);
  };
  add("clone", rpc::TransferKind::kClone);
  add("export", rpc::TransferKind::kExport);
  add("import", rpc::TransferKind::kImport);
}

void Add(Metrics& metrics, const rpc::WatchHub& watches) {
  metrics.AddGauge(
      {"workspaced_watchers", "Streams that watch workspaces now."}, {},
      Of(&watches, [](const auto& of) { return of.watchers(); }));
  metrics.AddGauge(
      {"workspaced_watchers_limit", "Maximum number of such streams."}, {},
      Of(&watches, [](const auto& of) { return of.options().max_watchers; }));
  metrics.AddGauge(
      {kCacheBytes, kCacheHelp}, {{"cache", "changes"}},
      Of(&watches, [](const auto& of) { return of.log().bytes(); }));
  metrics.AddGauge(
      {kCacheBytes, kCacheHelp}, {{"cache", "encoded_changes"}},
      Of(&watches, [](const auto& of) { return of.encoded_bytes(); }));
}

void Add(Metrics& metrics, const Acceptor& acceptor) {
  metrics.AddGauge(
      {"workspaced_connections", "Open connections of clients."}, {},
      Of(&acceptor, [](const auto& of) { return of.counts().open; }));
  using Counts = Acceptor::Counts;
  const auto add = [&](const char* result, uint64_t Counts::*count) {
    metrics.AddCounter(
        {"workspaced_connections_total",
         "Connections: accepted, refused for lack of descriptors, cut because "
         "the client misbehaved, and slowed because it had misbehaved."},
        {{"result", result}},
        Of(&acceptor, [count](const auto& of) { return of.counts().*count; }));
  };
  add("accepted", &Counts::accepted);
  add("refused", &Counts::refused);
  add("cut", &Counts::cut);
  add("slowed", &Counts::slowed);
}

void Add(Metrics& metrics, const observe::AuditLog& audit) {
  using Counts = observe::AuditLog::Counts;
  const auto add = [&](const char* result, uint64_t Counts::*count) {
    metrics.AddCounter(
        {"workspaced_audit_lines_total",
         "Lines of the audit log: queued, dropped because the disk was full "
         "or slow, and left out because too many credentials were wrong."},
        {{"result", result}},
        Of(&audit, [count](const auto& of) { return of.counts().*count; }));
  };
  add("queued", &Counts::lines);
  add("dropped", &Counts::dropped);
  add("left_out", &Counts::left_out);
  metrics.AddCounter(
      {"workspaced_audit_failures_total",
       "Failed attempts to write or sync the audit log."},
      {}, Of(&audit, [](const auto& of) { return of.counts().failures; }));
  metrics.AddGauge(
      {"workspaced_audit_queued_bytes", "Audit lines that are not synced."}, {},
      Of(&audit, [](const auto& of) { return of.counts().queued_bytes; }));
  metrics.AddGauge(
      {"workspaced_audit_writable",
       "1 if the last attempt to write or sync the audit log succeeded."},
      {}, Of(&audit, [](const auto& of) { return of.counts().writable; }));
}

// Reads a value that is negative until it is known. NaN stands for "unknown".
Metrics::Read Known(const std::atomic<double>& value) {
  return [&value] {
    const double known = value.load(std::memory_order_relaxed);
    return known < 0 ? std::numeric_limits<double>::quiet_NaN() : known;
  };
}

}  // namespace

ServerMetrics::ServerMetrics()
    : calls_(metrics_, Service().full_name(), MethodNames(), ReasonNames()),
      sync_seconds_(SyncBounds()),
      scan_seconds_(ScanBounds()),
      on_sync_([this](absl::Duration time) { sync_seconds_.Observe(time); }) {
  AddOwn();
}

void ServerMetrics::AddOwn() {
  metrics_.AddGauge(
      {"workspaced_build_info", "1, with the versions."},
      {{"version", std::string(kVersion)}, {"grpc_version", grpc::Version()}},
      [] { return 1; });
  metrics_.AddHistogram(
      {"workspaced_sync_seconds", "Time of each sync of a file or directory."},
      {}, &sync_seconds_);
  metrics_.AddHistogram(
      {"workspaced_scan_seconds",
       "Time of each scan that counts the files of a workspace."},
      {}, &scan_seconds_);
  metrics_.AddGauge({"workspaced_disk_size_bytes",
                     "Size of the file system of the base directory."},
                    {}, Known(disk_bytes_));
  metrics_.AddGauge({"workspaced_disk_available_bytes",
                     "Bytes that the server can still write."},
                    {}, Known(disk_available_bytes_));
  metrics_.AddGauge({"workspaced_disk_available_inodes",
                     "Files that the server can still create."},
                    {}, Known(disk_available_inodes_));
  observe::AddProcessMetrics(metrics_);
}

core::UsageScanner ServerMetrics::Measured(core::UsageScanner scanner) {
  return [this, scanner = std::move(scanner)](const core::Workspace& workspace,
                                              bool counts_only,
                                              core::Cancelled cancelled) {
    const auto begin = std::chrono::steady_clock::now();
    auto usage = scanner(workspace, counts_only, cancelled);
    scan_seconds_.Observe(
        absl::FromChrono(std::chrono::steady_clock::now() - begin));
    return usage;
  };
}

void ServerMetrics::Watch(const MetricSources& sources) {
  if (sources.ready != nullptr) {
    metrics_.AddGauge({"workspaced_ready", "1 if the server takes calls."}, {},
                      [ready = sources.ready] { return ready().ok(); });
  }
  if (sources.health != nullptr) {
    metrics_.AddGauge(
        {"workspaced_disk_healthy",
         "0 once a directory could not be synced: the server only reads until "
         "it is restarted."},
        {}, Of(sources.health, [](const auto& of) { return of.ok(); }));
  }
  if (sources.catalog != nullptr) Add(metrics_, *sources.catalog);
  if (sources.authority != nullptr) Add(metrics_, *sources.authority);
  if (sources.ledger != nullptr) Add(metrics_, *sources.ledger);
  if (sources.space_guard != nullptr) Add(metrics_, *sources.space_guard);
  if (sources.artifacts != nullptr) Add(metrics_, *sources.artifacts);
  if (sources.workers != nullptr) Add(metrics_, "calls", *sources.workers);
  if (sources.whole_file_workers != nullptr)
    Add(metrics_, "whole_files", *sources.whole_file_workers);
  if (sources.pacer != nullptr) Add(metrics_, *sources.pacer);
  if (sources.stream_workers != nullptr)
    Add(metrics_, "streams", *sources.stream_workers);
  if (sources.streams != nullptr) Add(metrics_, *sources.streams);
  if (sources.transfers != nullptr) Add(metrics_, *sources.transfers);
  if (sources.watches != nullptr) Add(metrics_, *sources.watches);
  if (sources.acceptor != nullptr) Add(metrics_, *sources.acceptor);
  if (sources.audit != nullptr) Add(metrics_, *sources.audit);
  if (sources.certificate_expiry != nullptr) {
    metrics_.AddGauge(
        {"workspaced_certificate_expiry_timestamp_seconds",
         "When the TLS certificate in use expires."},
        {}, [expiry = sources.certificate_expiry] {
          return absl::ToDoubleSeconds(expiry() - absl::UnixEpoch());
        });
  }
}

void ServerMetrics::MeasureDisk(const std::string& base_path) {
  struct statvfs info;
  // Keep the last values if the disk cannot be measured.
  if (::statvfs(base_path.c_str(), &info) != 0) return;
  const auto block = static_cast<double>(info.f_frsize);
  disk_bytes_ = static_cast<double>(info.f_blocks) * block;
  disk_available_bytes_ = static_cast<double>(info.f_bavail) * block;
  disk_available_inodes_ = static_cast<double>(info.f_favail);
}

}  // namespace mlops::server
