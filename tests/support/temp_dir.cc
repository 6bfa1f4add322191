#include "tests/support/temp_dir.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "absl/strings/str_cat.h"

namespace mlops::support {
namespace {

namespace stdfs = std::filesystem;

void Check(bool ok, absl::string_view what) {
  if (!ok) throw std::runtime_error(std::string(what));
}

}  // namespace

TempDir::TempDir() {
  std::string pattern =
      stdfs::canonical(stdfs::temp_directory_path()) / "mlops-test-XXXXXX";
  Check(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  path_ = pattern;
}

TempDir::~TempDir() {
  // std::filesystem::remove_all() would hold a descriptor for each level.
  [[maybe_unused]] const int ignored =
      std::system(absl::StrCat("rm -rf '", path_, "'").c_str());
}

std::string TempDir::Path(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

void TempDir::WriteFile(absl::string_view name, absl::string_view text) const {
  stdfs::create_directories(stdfs::path(Path(name)).parent_path());
  std::ofstream out(Path(name), std::ios::binary | std::ios::trunc);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  Check(out.good(), Path(name));
}

std::string TempDir::ReadFile(absl::string_view name) const {
  std::ifstream in(Path(name), std::ios::binary);
  Check(in.good(), Path(name));
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void TempDir::MakeDirs(absl::string_view name) const {
  stdfs::create_directories(Path(name));
}

bool TempDir::Exists(absl::string_view name) const {
  return stdfs::exists(stdfs::symlink_status(Path(name)));
}

void TempDir::Remove(absl::string_view name) const {
  stdfs::remove_all(Path(name));
}

void TempDir::Move(absl::string_view from, absl::string_view to) const {
  stdfs::rename(Path(from), Path(to));
}

void TempDir::Copy(absl::string_view from, absl::string_view to) const {
  stdfs::copy(
      Path(from), Path(to),
      stdfs::copy_options::recursive | stdfs::copy_options::copy_symlinks);
}

void TempDir::Link(absl::string_view target, absl::string_view name) const {
  stdfs::create_symlink(std::string(target), Path(name));
}

void TempDir::MakeFifo(absl::string_view name) const {
  Check(::mkfifo(Path(name).c_str(), 0600) == 0, Path(name));
}

}  // namespace mlops::support
