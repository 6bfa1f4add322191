// Creates or parses many workspaces.
//
// Usage:
//   many_workspaces make BASE COUNT
//     Creates COUNT workspaces like those of Create, without syncing them.
//   many_workspaces parse BASE
//     Reads every record and parses it with yaml-cpp, one after the other.
//     Prints the duration as JSON.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "service/base/thread_pool.h"
#include "service/core/layout.h"
#include "service/core/workspace_yaml.h"
#include "tests/bench/workload.h"
#include "yaml-cpp/yaml.h"

namespace mlops::bench {
namespace {

constexpr int kThreads = 2;
constexpr size_t kRun = 100;  // Workspaces that a thread takes at once.

void MakeOne(const std::string& base, size_t number) {
  const core::Workspace workspace =
      WorkspaceAt(static_cast<int64_t>(number), base);
  ::mkdir(workspace.root_path.c_str(), 0777);
  for (absl::string_view name : core::kDirectories) {
    ::mkdir(absl::StrCat(workspace.root_path, "/", name).c_str(), 0777);
  }
  std::ofstream file(
      absl::StrCat(workspace.root_path, "/", core::layout::kRecord));
  file << core::EncodeWorkspace(workspace);
  if (!file.flush())
    DieUnless(absl::InternalError(
        absl::StrCat("cannot write below ", workspace.root_path)));
}

int Make(const std::string& base, size_t count) {
  std::filesystem::create_directories(base);
  const std::string real_base = std::filesystem::canonical(base);
  base::ParallelFor(count, kThreads, kRun,
                    [&](size_t i) { MakeOne(real_base, i); });
  return 0;
}

int Parse(const std::string& base) {
  const Clock::time_point start = Clock::now();
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(base)) {
    std::ifstream file(entry.path() / std::string(core::layout::kRecord));
    if (!file) continue;
    std::stringstream text;
    text << file.rdbuf();
    count += YAML::Load(text.str()).IsMap();
  }
  std::cout << nlohmann::json{{"records", count},
                              {"seconds", SecondsSince(start)}}
            << std::endl;
  return 0;
}

int Main(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[1] : "";
  size_t count = 0;
  if (what == "make" && argc == 4 && absl::SimpleAtoi(argv[3], &count))
    return Make(argv[2], count);
  if (what == "parse" && argc == 3) return Parse(argv[2]);
  std::cerr << "usage: many_workspaces make BASE COUNT | many_workspaces parse "
               "BASE\n";
  return 2;
}

}  // namespace
}  // namespace mlops::bench

int main(int argc, char** argv) { return mlops::bench::Main(argc, argv); }
