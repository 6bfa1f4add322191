#ifndef MLOPS_TESTS_BENCH_WORKLOAD_H_
#define MLOPS_TESTS_BENCH_WORKLOAD_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "google/protobuf/struct.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/support/status.h"
#include "service/core/workspace.h"

// Workloads and helpers that all benchmarks share, so that their figures are
// comparable. Thread-safe.
namespace mlops::bench {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start);
// Returns the CPU time of all threads of process `pid`, in seconds.
double CpuSeconds(pid_t pid);

// Returns the name of a project, such as "project-000042".
core::ProjectName ProjectAt(int64_t number);

// Returns metadata with a few typical keys. `epoch` is one of the values, so
// that different epochs give different metadata.
core::Metadata SmallMetadata(int64_t epoch);
google::protobuf::Struct ToStruct(const core::Metadata& metadata);

// Returns the workspace that Create would create below `base_path`.
core::Workspace WorkspaceAt(int64_t number, const std::string& base_path);

// Returns a new channel with its own connection to `address`. Addresses
// "https://HOST:PORT" are encrypted; the file `ca` has the authority.
std::shared_ptr<grpc::Channel> Connect(const std::string& address,
                                       const std::string& ca = "");

// Prints an error and ends the program unless `status` is OK, because a
// benchmark must not continue after a failed call.
void DieUnless(const absl::Status& status);
void DieUnless(const grpc::Status& status);

}  // namespace mlops::bench

#endif  // MLOPS_TESTS_BENCH_WORKLOAD_H_
