#include "service/artifacts/stage.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "service/artifacts/tree.h"
#include "service/core/layout.h"
#include "service/fs/remove_tree.h"

namespace mlops::artifacts {
namespace {

constexpr int64_t kRemoveStep = 10'000;
// Only the owner may enter.
constexpr uint32_t kPrivate = 0700;

}  // namespace

StagedTree::~StagedTree() {
  // A tree that has become a workspace is no longer at this name, and the name
  // is never used again. The next start removes what cannot be removed now.
  while (true) {
    const auto removed = fs::RemoveTree(*staging_, name_, kRemoveStep);
    if (!removed.ok() || removed->complete) return;
  }
}

absl::Status StagedTree::Finish(std::unique_ptr<fs::File> file) {
  if (!can_sync_all_ || ++file_count_ <= kSyncEach) {
    RETURN_IF_ERROR(file->Sync());
  } else {
    // Optional, but it shortens the sync at the end.
    file->StartWriteback(0, 0);
  }
  return file->Close();
}

absl::Status StagedTree::Sync(core::Cancelled cancelled) {
  // Set the mode first, so that the sync covers it.
  RETURN_IF_ERROR(root_->SetMode(mode_));
  return can_sync_all_ && file_count_ > kSyncEach ? root_->SyncAll()
                                                  : SyncDirs(cancelled);
}

// Syncs every directory; the files are synced already.
absl::Status StagedTree::SyncDirs(core::Cancelled cancelled) {
  std::vector<std::string> left = {""};
  fs::DirSummary summary;
  while (!left.empty()) {
    if (cancelled()) return absl::CancelledError("the call was cancelled");
    const std::string path = std::move(left.back());
    left.pop_back();
    std::unique_ptr<fs::Dir> opened;
    if (!path.empty()) {
      ASSIGN_OR_RETURN(opened, root_->OpenDir(path));
    }
    fs::Dir& dir = opened == nullptr ? *root_ : *opened;
    RETURN_IF_ERROR(dir.Summarize("", {.file_sizes = false}, &summary));
    for (absl::string_view name :
         absl::StrSplit(summary.subdirectories, '\0', absl::SkipEmpty()))
      left.push_back(path.empty() ? std::string(name)
                                  : absl::StrCat(path, "/", name));
    RETURN_IF_ERROR(dir.Sync());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<StagedTree>> Stage::Begin() {
  RETURN_IF_ERROR(health_->Check());
  ASSIGN_OR_RETURN(std::shared_ptr<fs::Dir> staging, OpenStaging());
  std::string name = base::RandomId();
  RETURN_IF_ERROR(staging->MakeDir(name));
  ASSIGN_OR_RETURN(std::unique_ptr<fs::Dir> root, staging->OpenDir(name));
  ASSIGN_OR_RETURN(const fs::FileStamp stamp, root->StatSelf());
  // From here on, the destructor removes the directory.
  auto tree = std::unique_ptr<StagedTree>(new StagedTree(
      std::move(staging), std::move(name), std::move(root), stamp.mode));
  RETURN_IF_ERROR(tree->root().SetMode(kPrivate));
  return tree;
}

absl::StatusOr<std::shared_ptr<fs::Dir>> Stage::OpenStaging() {
  {
    absl::MutexLock lock(&mutex_);
    if (staging_ != nullptr) return staging_;
  }
  // Open it without the lock. If two threads do so, both use the first result.
  ASSIGN_OR_RETURN(std::shared_ptr<fs::Dir> opened,
                   OpenOrMakeDir(*base_, core::layout::kStagingDir));
  absl::MutexLock lock(&mutex_);
  if (staging_ == nullptr) staging_ = std::move(opened);
  return staging_;
}

}  // namespace mlops::artifacts
