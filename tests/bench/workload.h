#ifndef MLOPS_TESTS_BENCH_WORKLOAD_H_
#define MLOPS_TESTS_BENCH_WORKLOAD_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "google/protobuf/struct.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/support/status.h"
#include "service/core/workspace.h"

// What all benchmarks work on, so that their figures can be compared.
// Thread-safe.
namespace mlops::bench {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start);

// "project-000042".
core::ProjectName ProjectAt(int64_t number);

// A few keys, as a team would keep them; `epoch` makes one differ from the
// next.
core::Metadata SmallMetadata(int64_t epoch);
google::protobuf::Struct ToStruct(const core::Metadata& metadata);

// A workspace as Create would make it below `base_path`.
core::Workspace WorkspaceAt(int64_t number, const std::string& base_path);

std::shared_ptr<grpc::Channel> Connect(const std::string& address);

// Ends the program with a sentence if there is a problem: a benchmark goes on
// with nothing it has not measured.
void DieUnless(const absl::Status& status);
void DieUnless(const grpc::Status& status);

}  // namespace mlops::bench

#endif  // MLOPS_TESTS_BENCH_WORKLOAD_H_
