#include "service/doctor/repair.h"

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/layout.h"

namespace mlops::doctor {
namespace {

// Splits "a/b/c" into "a/b" and "c". The first is "" for a single name.
std::pair<std::string, std::string> SplitPath(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// The directory `path` below `base`, or `base` itself if it is "".
class Parent {
 public:
  static absl::StatusOr<Parent> Open(fs::Dir& base, const std::string& path) {
    if (path.empty()) return Parent(&base, nullptr);
    ASSIGN_OR_RETURN(auto opened, base.OpenDir(path));
    fs::Dir* const dir = opened.get();
    return Parent(dir, std::move(opened));
  }
  fs::Dir& dir() { return *dir_; }

 private:
  Parent(fs::Dir* dir, std::unique_ptr<fs::Dir> owned)
      : dir_(dir), owned_(std::move(owned)) {}

  fs::Dir* dir_;
  std::unique_ptr<fs::Dir> owned_;
};

// Creates the directory `path` and its parents below `base`, durably. Returns
// the directory.
absl::StatusOr<Parent> MakeDirs(fs::Dir& base, const std::string& path) {
  const auto [above, name] = SplitPath(path);
  if (name.empty()) return Parent::Open(base, "");
  ASSIGN_OR_RETURN(Parent parent, MakeDirs(base, above));
  if (const absl::Status made = parent.dir().MakeDir(name); made.ok()) {
    // The new directory must be durable before an entry moves into it.
    RETURN_IF_ERROR(parent.dir().Sync());
  } else if (!absl::IsAlreadyExists(made)) {
    return made;
  }
  return Parent::Open(base, path);
}

absl::Status SetAside(fs::Dir& base, const std::string& path,
                      const std::string& to) {
  const auto [above, name] = SplitPath(path);
  const auto [to_above, to_name] = SplitPath(to);
  ASSIGN_OR_RETURN(Parent from, Parent::Open(base, above));
  ASSIGN_OR_RETURN(Parent target, MakeDirs(base, to_above));
  RETURN_IF_ERROR(from.dir().Rename(name, target.dir(), to_name,
                                    fs::RenameMode::kNoReplace));
  // Sync the new name first: after a power cut, the entry has one name or both.
  RETURN_IF_ERROR(target.dir().Sync());
  return from.dir().Sync();
}

absl::Status MakeDirectory(fs::Dir& base, const std::string& path) {
  const auto [above, name] = SplitPath(path);
  ASSIGN_OR_RETURN(Parent parent, Parent::Open(base, above));
  // The users of the workspace must be able to use the directory.
  RETURN_IF_ERROR(parent.dir().MakeDirLike(name, parent.dir()));
  return parent.dir().Sync();
}

}  // namespace

std::vector<Repaired> CarryOut(fs::Dir& base,
                               const std::vector<Finding>& findings,
                               absl::Time now) {
  // Each run has its own directory, so that it never replaces an entry
  // that an earlier run has set aside.
  const std::string aside = absl::StrCat(
      core::layout::kServerDir, "/doctor-",
      absl::FormatTime("%Y%m%dT%H%M%E6SZ", now, absl::UTCTimeZone()));
  std::vector<Repaired> done;
  for (const Finding& finding : findings) {
    for (const Repair& repair : finding.repairs) {
      Repaired repaired{.repair = repair, .result = repair.path};
      if (repair.kind == Repair::Kind::kSetAside) {
        repaired.result = absl::StrCat(aside, "/", repair.path);
        repaired.status = SetAside(base, repair.path, repaired.result);
        // The entry is gone, so nothing is left to repair.
        if (absl::IsNotFound(repaired.status)) continue;
      } else {
        repaired.status = MakeDirectory(base, repair.path);
        // The directory exists again.
        if (absl::IsAlreadyExists(repaired.status)) continue;
      }
      done.push_back(std::move(repaired));
    }
  }
  return done;
}

}  // namespace mlops::doctor
