#ifndef MLOPS_SERVICE_SERVER_SERVER_METRICS_H_
#define MLOPS_SERVICE_SERVER_SERVER_METRICS_H_

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/artifacts/artifacts.h"
#include "service/base/thread_pool.h"
#include "service/catalog/file_catalog.h"
#include "service/core/authority.h"
#include "service/core/disk_health.h"
#include "service/core/usage.h"
#include "service/core/usage_ledger.h"
#include "service/observe/audit.h"
#include "service/observe/call_metrics.h"
#include "service/observe/counters.h"
#include "service/observe/metrics.h"
#include "service/rpc/artifact_streams.h"
#include "service/rpc/pacer.h"
#include "service/rpc/transfer_slots.h"
#include "service/rpc/watch_hub.h"
#include "service/server/acceptor.h"
#include "service/server/space_guard.h"

namespace mlops::server {

// The objects that a server's metrics describe. They must outlive the last
// Metrics::Write(). Metrics of null pointers and functions are omitted.
struct MetricSources {
  const catalog::FileCatalog* catalog = nullptr;
  const core::Authority* authority = nullptr;
  const core::UsageLedger* ledger = nullptr;
  const SpaceGuard* space_guard = nullptr;
  const artifacts::Artifacts* artifacts = nullptr;
  const core::DiskHealth* health = nullptr;
  const base::ThreadPool* workers = nullptr;
  const base::ThreadPool* whole_file_workers = nullptr;
  const rpc::Pacer* pacer = nullptr;
  const base::ThreadPool* stream_workers = nullptr;
  const rpc::ArtifactStreams* streams = nullptr;
  const rpc::TransferSlots* transfers = nullptr;
  const rpc::WatchHub* watches = nullptr;
  const Acceptor* acceptor = nullptr;
  const observe::AuditLog* audit = nullptr;
  // Whether the server should receive calls, as for /readyz.
  std::function<absl::Status()> ready;
  // When the TLS certificate in use expires.
  std::function<absl::Time()> certificate_expiry;
};

// All metrics of a server. Thread-safe.
class ServerMetrics {
 public:
  ServerMetrics();

  observe::Metrics& metrics() { return metrics_; }
  observe::CallMetrics& calls() { return calls_; }
  // For fs::OpenOptions.
  const std::function<void(absl::Duration)>* on_sync() const {
    return &on_sync_;
  }
  // Returns `scanner` with its scans measured. This object must outlive the
  // result.
  core::UsageScanner Measured(core::UsageScanner scanner);

  // Adds the metrics of `sources`. Must be called once.
  void Watch(const MetricSources& sources);

  // Measures the disk space of `base_path`. It waits for the disk, so it is not
  // part of Metrics::Write(). Call it every few seconds.
  void MeasureDisk(const std::string& base_path);

 private:
  void AddOwn();

  observe::Metrics metrics_;
  observe::CallMetrics calls_;
  observe::Histogram sync_seconds_;
  observe::Histogram scan_seconds_;
  const std::function<void(absl::Duration)> on_sync_;
  // Negative until measured.
  std::atomic<double> disk_bytes_ = -1;
  std::atomic<double> disk_available_bytes_ = -1;
  std::atomic<double> disk_available_inodes_ = -1;
};

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_SERVER_METRICS_H_
