#include "service/observe/log.h"

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/observe/log_file.h"
#include "service/observe/quoted.h"
#include "spdlog/async.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/base_sink.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace mlops::observe {
namespace {

constexpr size_t kQueuedLines = 8192;
// Lines about calls leave this much room for other lines.
constexpr size_t kQueuedCalls = kQueuedLines - 1024;
constexpr std::chrono::seconds kProblemInterval(10);
constexpr size_t kMaxBatchBytes = 64 * 1024;
// Short enough for the queue to hold all lines that arrive during the rest.
constexpr std::chrono::milliseconds kRest(10);

bool IsServerFault(const absl::Status& status) {
  return absl::IsInternal(status) || absl::IsDataLoss(status) ||
         absl::IsResourceExhausted(status) || absl::IsUnknown(status);
}

// Passes lines on in batches. After a batch, the log's thread rests, and the
// lines queued meanwhile form the next batch. A busy server thus needs neither
// a wake-up nor a write per line. A single line is written at once.
class BatchingSink final
    : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  // `queue` must outlive this.
  BatchingSink(spdlog::sink_ptr sink, spdlog::details::thread_pool* queue)
      : sink_(std::move(sink)), queue_(queue) {
    // A batch is already formatted and ends with a newline.
    sink_->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        "%v", spdlog::pattern_time_type::utc, ""));
  }

 private:
  void sink_it_(const spdlog::details::log_msg& line) override {
    formatter_->format(line, batch_);
    // If more lines are queued, write them together.
    if (queue_->queue_size() > 0 && batch_.size() < kMaxBatchBytes) return;
    flush_();
    if (queue_->queue_size() == 0) std::this_thread::sleep_for(kRest);
  }

  void flush_() override {
    if (batch_.size() == 0) return;
    sink_->log({"", spdlog::level::info,
                spdlog::string_view_t(batch_.data(), batch_.size())});
    sink_->flush();
    batch_.clear();
  }

  const spdlog::sink_ptr sink_;
  spdlog::details::thread_pool* const queue_;
  spdlog::memory_buf_t batch_;
};

// Writes batches to a file.
class FileSink final
    : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit FileSink(std::unique_ptr<LogFile> file) : file_(std::move(file)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& batch) override {
    file_->Write({batch.payload.data(), batch.payload.size()});
  }
  void flush_() override {}

  const std::unique_ptr<LogFile> file_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Log>> Log::Open(const Options& options) {
  spdlog::sink_ptr sink;
  if (options.file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  } else {
    ASSIGN_OR_RETURN(
        auto file,
        LogFile::Open(options.file, {.follow_links = options.follow_links}));
    sink = std::make_shared<FileSink>(std::move(file));
  }
  // A single thread writes, so that the lines stay in order.
  auto queue = std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1);
  // If the queue is full, drop the oldest line instead of blocking the caller.
  auto logger = std::make_shared<spdlog::async_logger>(
      "workspaced",
      std::make_shared<BatchingSink>(std::move(sink), queue.get()), queue,
      spdlog::async_overflow_policy::overrun_oldest);
  logger->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l",%v})",
                      spdlog::pattern_time_type::utc);
  // Warnings must not wait until a batch is full.
  logger->flush_on(spdlog::level::warn);
  return std::unique_ptr<Log>(
      new Log(std::move(queue), std::move(logger), options.calls));
}

Log::Log(std::shared_ptr<spdlog::details::thread_pool> queue,
         std::shared_ptr<spdlog::logger> logger, CallLogLevel calls)
    : logger_(std::move(logger)), queue_(std::move(queue)), calls_(calls) {}

Log::~Log() { logger_->flush(); }

bool Log::Wants(const absl::Status& status) const {
  return calls_ == CallLogLevel::kAll ||
         (calls_ == CallLogLevel::kErrors && IsServerFault(status));
}

void Log::Call(absl::string_view method, absl::string_view project,
               const absl::Status& status, absl::Duration duration,
               absl::string_view peer) {
  // Drop the line instead of waiting for the disk.
  if (!Wants(status) || queue_->queue_size() >= kQueuedCalls) return;
  std::string line =
      absl::StrCat(R"("method":")", method, R"(","code":")",
                   absl::StatusCodeToString(status.code()), R"(","micros":)",
                   absl::ToInt64Microseconds(duration));
  if (!project.empty())
    absl::StrAppend(&line, R"(,"project":)", QuotedEcho(project));
  if (!peer.empty()) absl::StrAppend(&line, R"(,"peer":)", QuotedEcho(peer));
  if (!status.ok()) {
    absl::StrAppend(&line, R"(,"reason":)", Quoted(base::GetReason(status)),
                    R"(,"message":)", Quoted(status.message()));
  }
  logger_->log(
      IsServerFault(status) ? spdlog::level::warn : spdlog::level::info,
      spdlog::string_view_t(line));
}

void Log::Info(absl::string_view message) {
  logger_->info(
      spdlog::string_view_t(absl::StrCat(R"("message":)", Quoted(message))));
}

void Log::Warning(absl::string_view message) {
  logger_->warn(
      spdlog::string_view_t(absl::StrCat(R"("message":)", Quoted(message))));
}

void Log::Problem(absl::string_view what, const absl::Status& problem) {
  int64_t left_out = 0;
  {
    // Within the interval, count the line instead of logging it.
    absl::MutexLock lock(&mutex_);
    auto it = rates_.find(what);
    if (it == rates_.end())
      it = rates_.emplace(std::string(what), Rate()).first;
    Rate& rate = it->second;
    const auto now = std::chrono::steady_clock::now();
    if (now < rate.next) {
      ++rate.left_out;
      return;
    }
    rate.next = now + kProblemInterval;
    left_out = std::exchange(rate.left_out, 0);
  }
  std::string line = absl::StrCat(
      R"("message":)", Quoted(absl::StrCat(what, ": ", problem.message())));
  const auto info = base::GetErrorInfo(problem);
  for (const char* key : {"path", "file", "errno"}) {
    if (!info) break;
    const auto it = info->metadata.find(key);
    if (it != info->metadata.end())
      absl::StrAppend(&line, R"(,")", key, R"(":)", Quoted(it->second));
  }
  if (left_out > 0) absl::StrAppend(&line, R"(,"left_out":)", left_out);
  logger_->warn(spdlog::string_view_t(line));
}

}  // namespace mlops::observe
