#ifndef MLOPS_SERVICE_OBSERVE_CALL_METRICS_H_
#define MLOPS_SERVICE_OBSERVE_CALL_METRICS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/observe/counters.h"
#include "service/observe/metrics.h"

namespace mlops::observe {

// The metrics of all calls of one gRPC service. Uses the names, labels and
// codes of go-grpc-prometheus, for which dashboards exist. Every series exists
// from the start, so that rate() sees the first error. Thread-safe.
//
// A successful unary call takes eight relaxed additions to counters that few
// threads share, which take some 50 ns. An error also looks up its reason.
class CallMetrics {
 public:
  enum class Type { kUnary, kServerStream, kClientStream, kBidiStream };
  struct MethodName {
    std::string name;
    Type type = Type::kUnary;
  };

  // The metrics of one method.
  class Method {
   public:
    // A call began.
    void Started() { sums_.Add(kStarted); }
    // The server received, or sent, a message of `bytes` bytes.
    void Received(size_t bytes) {
      sums_.Add(kReceived);
      sums_.Add(kReceivedBytes, bytes);
    }
    void Sent(size_t bytes) {
      sums_.Add(kSent);
      sums_.Add(kSentBytes, bytes);
    }
    // A call ended with `status`, `duration` after Started().
    void Handled(const absl::Status& status, absl::Duration duration);

   private:
    friend class CallMetrics;
    static constexpr size_t kCodes = 17;
    enum Index : size_t {
      kStarted,
      kReceived,
      kReceivedBytes,
      kSent,
      kSentBytes,
      kFirstCode,
      kEnd = kFirstCode + kCodes,
    };

    explicit Method(CallMetrics* all);
    // Returns the number of calls that have started but not ended.
    double InFlight() const;

    CallMetrics* const all_;
    ShardedSums sums_{kEnd};
    Histogram seconds_;
  };

  // Adds the series to `metrics`, which must not be written after this object
  // is destroyed. `service` is the service's full name. `reasons` lists all
  // names that base::GetReason() may return; others count as "".
  CallMetrics(Metrics& metrics, const std::string& service,
              const std::vector<MethodName>& methods,
              const std::vector<std::string>& reasons);

  // Returns the metrics of `name`, one of the constructor's `methods`. Takes
  // some 20 ns. The reference remains valid.
  Method& ForMethod(absl::string_view name) { return *methods_.at(name); }

 private:
  void AddMethod(const std::string& service, const MethodName& name);
  void AddReason(const std::string& reason);
  void CountError(const absl::Status& status);
  // Counts a call refused because of `limit`, one of a few texts.
  void CountRefusal(const std::string& limit) ABSL_LOCKS_EXCLUDED(mutex_);

  Metrics& metrics_;
  absl::flat_hash_map<std::string, std::unique_ptr<Method>> methods_;
  absl::flat_hash_map<std::string, std::unique_ptr<ShardedSums>> reasons_;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, std::unique_ptr<ShardedSums>> limits_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_CALL_METRICS_H_
