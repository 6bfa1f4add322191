#include "tests/bench/workload.h"

#include <time.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "google/protobuf/util/json_util.h"
#include "grpc/grpc.h"
#include "grpcpp/create_channel.h"
#include "proto/cpp/base/id.h"
#include "service/core/update_rules.h"

namespace mlops::bench {

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double CpuSeconds(pid_t pid) {
  clockid_t clock;
  timespec time = {};
  if (::clock_getcpuclockid(pid, &clock) != 0 ||
      ::clock_gettime(clock, &time) != 0) {
    DieUnless(absl::NotFoundError(
        "cannot read the CPU clock of the server's process"));
  }
  return static_cast<double>(time.tv_sec) +
         1e-9 * static_cast<double>(time.tv_nsec);
}

core::ProjectName ProjectAt(int64_t number) {
  return core::ProjectName::Parse(absl::StrFormat("project-%06d", number))
      .value();
}

core::Metadata SmallMetadata(int64_t epoch) {
  return {{"team", "risk"},
          {"stage", "production"},
          {"epoch", epoch},
          {"tags", {"fraud", "daily"}}};
}

google::protobuf::Struct ToStruct(const core::Metadata& metadata) {
  google::protobuf::Struct message;
  if (!google::protobuf::util::JsonStringToMessage(metadata.dump(), &message)
           .ok())
    std::abort();
  return message;
}

core::Workspace WorkspaceAt(int64_t number, const std::string& base_path) {
  const core::ProjectName project = ProjectAt(number);
  return core::NewWorkspace(
             {.project = project,
              .root_path = absl::StrCat(base_path, "/", project.str()),
              .uid = base::RandomId(),
              .metadata = SmallMetadata(number)},
             absl::Now())
      .value();
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address,
                                       const std::string& ca) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // By default, gRPC shares connections of a process to the same address.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  absl::string_view target = address;
  auto credentials = grpc::InsecureChannelCredentials();
  if (absl::ConsumePrefix(&target, "https://")) {
    std::ifstream file(ca);
    credentials = grpc::SslCredentials(
        {.pem_root_certs = {std::istreambuf_iterator<char>(file), {}}});
  }
  return grpc::CreateCustomChannel(std::string(target), credentials, arguments);
}

void DieUnless(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << "benchmark: " << status << "\n";
  std::exit(1);
}

void DieUnless(const grpc::Status& status) {
  if (status.ok()) return;
  std::cerr << "benchmark: call failed with code " << status.error_code()
            << ": " << status.error_message() << "\n";
  std::exit(1);
}

}  // namespace mlops::bench
