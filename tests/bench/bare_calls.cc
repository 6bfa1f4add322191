#include "tests/bench/bare_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>

namespace mlops::bench {
namespace {

// Returns the result of a system call. Ends the program if the call failed.
int Must(int result) {
  if (result >= 0) return result;
  std::cerr << "benchmark: a system call failed: " << std::strerror(errno)
            << "\n";
  std::exit(1);
}

int OpenDir(int parent, const char* name) {
  return Must(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

void WriteSynced(int dir, const char* name, absl::string_view data) {
  const int file =
      Must(::openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  Must(static_cast<int>(::write(file, data.data(), data.size())));
  Must(::fsync(file));
  Must(::close(file));
}

}  // namespace

BareCalls::BareCalls(const std::string& base) {
  std::filesystem::create_directories(base + "/.staging");
  base_ = OpenDir(AT_FDCWD, base.c_str());
  staging_ = OpenDir(base_, ".staging");
}

BareCalls::~BareCalls() {
  ::close(staging_);
  ::close(base_);
}

void BareCalls::Create(const std::string& name, absl::string_view record) {
  Must(::mkdirat(staging_, name.c_str(), 0777));
  const int dir = OpenDir(staging_, name.c_str());
  for (const char* child : {"mlflow", "dvc", "monitoring", "models", "outputs"})
    Must(::mkdirat(dir, child, 0777));
  WriteSynced(dir, "workspace.yaml", record);
  Must(::fsync(dir));
  Must(::renameat2(staging_, name.c_str(), base_, name.c_str(),
                   RENAME_NOREPLACE));
  Must(::fsync(base_));
  Must(::close(dir));
}

void BareCalls::Update(const std::string& name, absl::string_view record) {
  const int dir = OpenDir(base_, name.c_str());
  WriteSynced(dir, ".workspace.yaml.new", record);
  Must(::renameat(dir, ".workspace.yaml.new", dir, "workspace.yaml"));
  Must(::fsync(dir));
  Must(::close(dir));
}

}  // namespace mlops::bench
