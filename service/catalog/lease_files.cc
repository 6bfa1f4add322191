#include "service/catalog/lease_files.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/iso_time.h"
#include "service/core/layout.h"
#include "service/fs/atomic_file.h"

namespace mlops::catalog {
namespace {

constexpr int64_t kMaxFileBytes = 4096;
// The first line of the fences file. The second line is the number; its newline
// shows that the file is complete.
constexpr absl::string_view kFencesHeader =
    "# Larger than every fence given so far. Never make it smaller.\n";

absl::Status Damaged(absl::string_view path, absl::string_view problem) {
  return base::MakeError(
      absl::StatusCode::kInternal,
      absl::StrCat(core::layout::kServerDir, "/", path, ": ", problem),
      {.reason = "IO_ERROR",
       .metadata = {
           {"path", absl::StrCat(core::layout::kServerDir, "/", path)}}});
}

std::string LeasePath(absl::string_view project) {
  return absl::StrCat(core::layout::kLeasesDir, "/", project);
}

std::string Format(const core::StoredLease& lease) {
  // Round the ttl up, so that a restart never shortens the lease.
  const nlohmann::json json = {
      {"uid", lease.uid},
      {"holder", lease.holder},
      {"fence", lease.fence},
      {"acquire_time", core::FormatIsoTime(lease.acquire_time)},
      {"ttl_ms", absl::ToInt64Milliseconds(
                     absl::Ceil(lease.ttl, absl::Milliseconds(1)))}};
  return absl::StrCat(json.dump(), "\n");
}

// Returns nullopt if `text` is not the output of Format().
std::optional<core::StoredLease> Parse(const core::ProjectName& project,
                                       const std::string& text) {
  const nlohmann::json json =
      nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto text_of = [&json](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>()
                                                     : std::string();
  };
  const auto number_of = [&json](const char* key) -> int64_t {
    const auto found = json.find(key);
    return found != json.end() && found->is_number_integer()
               ? found->get<int64_t>()
               : 0;
  };
  const auto acquired = core::ParseIsoTime(text_of("acquire_time"));
  core::StoredLease lease{.project = project,
                          .uid = text_of("uid"),
                          .holder = text_of("holder"),
                          .fence = number_of("fence"),
                          .acquire_time = acquired.value_or(absl::UnixEpoch()),
                          .ttl = absl::Milliseconds(number_of("ttl_ms"))};
  const bool whole = !lease.uid.empty() && !lease.holder.empty() &&
                     lease.holder.size() <= core::kMaxHolderBytes &&
                     lease.fence > 0 && lease.ttl > absl::ZeroDuration() &&
                     acquired;
  return whole ? std::optional(std::move(lease)) : std::nullopt;
}

absl::StatusOr<std::unique_ptr<fs::Dir>> OpenOrMakeDir(fs::Dir& dir,
                                                       absl::string_view name) {
  absl::Status made = dir.MakeDir(name);
  if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
  return dir.OpenDir(name);
}

// Collects names first, because removing entries disturbs the listing.
absl::StatusOr<std::vector<std::string>> ListNames(const fs::Dir& dir) {
  std::vector<std::string> names;
  RETURN_IF_ERROR(
      dir.ForEachEntry([&names](absl::string_view name, fs::EntryType) {
        names.emplace_back(name);
        return true;
      }));
  return names;
}

}  // namespace

LeaseFiles::LeaseFiles(std::shared_ptr<fs::Dir> base,
                       std::shared_ptr<core::DiskHealth> health,
                       base::Clock clock)
    : base_(std::move(base)),
      health_(std::move(health)),
      clock_(std::move(clock)) {}

absl::StatusOr<LeaseFiles::Dirs*> LeaseFiles::OpenDirs() {
  RETURN_IF_ERROR(health_->Check());
  absl::MutexLock lock(&dirs_mutex_);
  if (dirs_ != nullptr) return dirs_.get();
  auto dirs = std::make_unique<Dirs>();
  ASSIGN_OR_RETURN(dirs->server,
                   OpenOrMakeDir(*base_, core::layout::kServerDir));
  ASSIGN_OR_RETURN(dirs->leases,
                   OpenOrMakeDir(*dirs->server, core::layout::kLeasesDir));
  // Without these syncs, a power cut could lose a directory together with the
  // files that are written to it later.
  RETURN_IF_ERROR(health_->Sync(*dirs->server));
  RETURN_IF_ERROR(health_->Sync(*base_));
  dirs_ = std::move(dirs);
  return dirs_.get();
}

absl::Status LeaseFiles::Replace(fs::Dir& dir, const std::string& name,
                                 const std::string& temp,
                                 absl::string_view text) {
  RETURN_IF_ERROR(fs::WriteNewFile(dir, temp, text));
  absl::Status renamed = dir.Rename(temp, dir, name, fs::RenameMode::kReplace);
  if (!renamed.ok()) {
    dir.RemoveFile(temp).IgnoreError();
    return renamed;
  }
  return health_->Sync(dir);
}

// --- Leases ------------------------------------------------------------------

absl::Status LeaseFiles::Save(const core::StoredLease& lease) {
  ASSIGN_OR_RETURN(Dirs* const dirs, OpenDirs());
  // The temporary name begins with a dot, by which Load() recognizes it.
  const std::string& name = lease.project.str();
  return Replace(*dirs->leases, name,
                 absl::StrCat(".", name, ".", base::RandomId()), Format(lease));
}

absl::Status LeaseFiles::Remove(const core::ProjectName& project) {
  ASSIGN_OR_RETURN(Dirs* const dirs, OpenDirs());
  absl::Status removed = dirs->leases->RemoveFile(project.str());
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  return health_->Sync(*dirs->leases);
}

absl::StatusOr<std::vector<core::StoredLease>> LeaseFiles::Load(
    const std::function<void(const absl::Status&)>& report) {
  std::vector<core::StoredLease> leases;
  const auto server = base_->OpenDir(core::layout::kServerDir);
  if (absl::IsNotFound(server.status())) return leases;
  RETURN_IF_ERROR(server.status());
  // Orphaned temporary copies of the fences file.
  ASSIGN_OR_RETURN(const auto beside, ListNames(**server));
  for (const std::string& name : beside) {
    if (absl::StartsWith(name, absl::StrCat(core::layout::kFencesFile, ".")))
      (*server)->RemoveFile(name).IgnoreError();
  }
  const auto dir = (*server)->OpenDir(core::layout::kLeasesDir);
  if (absl::IsNotFound(dir.status())) return leases;
  RETURN_IF_ERROR(dir.status());
  ASSIGN_OR_RETURN(const auto names, ListNames(**dir));
  for (const std::string& name : names) {
    // No project's name begins with a dot, so this is a temporary file.
    if (absl::StartsWith(name, ".")) {
      (*dir)->RemoveFile(name).IgnoreError();
      continue;
    }
    const auto project = core::ProjectName::Parse(name);
    const auto content = (*dir)->ReadFile(name, kMaxFileBytes);
    std::optional<core::StoredLease> lease;
    if (project.ok() && content.ok()) lease = Parse(*project, content->data);
    if (lease) {
      // If the fences file is lost, new fences must still exceed this one.
      absl::MutexLock lock(&fences_mutex_);
      last_known_fence_ = std::max(last_known_fence_, lease->fence);
      leases.push_back(*std::move(lease));
    } else {
      report(Damaged(LeasePath(name), content.ok()
                                          ? "is not a lease, and is ignored"
                                          : content.status().message()));
    }
  }
  return leases;
}

// --- Fences ------------------------------------------------------------------

absl::StatusOr<int64_t> LeaseFiles::ReadFences(const fs::Dir& server) const {
  const auto content =
      server.ReadFile(core::layout::kFencesFile, kMaxFileBytes);
  if (absl::IsNotFound(content.status()))
    return std::max(int64_t{1}, absl::ToUnixMillis(clock_()));
  RETURN_IF_ERROR(content.status());
  absl::string_view text = content->data;
  int64_t number = 0;
  if (absl::ConsumePrefix(&text, kFencesHeader) &&
      absl::ConsumeSuffix(&text, "\n") && absl::SimpleAtoi(text, &number) &&
      number > 0 &&
      number < std::numeric_limits<int64_t>::max() - kFencesPerBlock) {
    return number;
  }
  return Damaged(core::layout::kFencesFile,
                 "is damaged; restore it, or write its first line and a number "
                 "larger than every fence that was ever given");
}

absl::StatusOr<int64_t> LeaseFiles::NextFence() {
  ASSIGN_OR_RETURN(Dirs* const dirs, OpenDirs());
  absl::MutexLock lock(&fences_mutex_);
  if (next_fence_ == 0) {
    ASSIGN_OR_RETURN(reserved_, ReadFences(*dirs->server));
    // This is `reserved_`, unless the file is older than a stored lease.
    next_fence_ = std::max(reserved_, last_known_fence_ + 1);
  }
  // Make the reservation durable before granting a fence from it, so that a
  // crash never makes the server grant the same fence twice.
  if (next_fence_ >= reserved_) {
    const int64_t reserved = next_fence_ + kFencesPerBlock;
    RETURN_IF_ERROR(
        Replace(*dirs->server, std::string(core::layout::kFencesFile),
                absl::StrCat(core::layout::kFencesFile, ".", base::RandomId()),
                absl::StrCat(kFencesHeader, reserved, "\n")));
    reserved_ = reserved;
  }
  return next_fence_++;
}

}  // namespace mlops::catalog
