#include "client-cpp/testing/fake_artifacts.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "google/protobuf/util/time_util.h"
#include "mlops/testing/fake_workspace_service.h"
#include "proto/cpp/base/sha256.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::testing {
namespace {

namespace v1 = workspace::v1;
using absl::StatusCode;

constexpr const char* kDirectories[] = {"mlflow", "dvc", "monitoring", "models",
                                        "outputs"};
constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxNameBytes = 255;
constexpr int kMaxPageSize = 1000;

absl::Status CheckLimit(const std::string& project, absl::string_view quota,
                        std::optional<int64_t> limit, int64_t used,
                        int64_t wanted) {
  if (!limit || wanted <= 0 || used <= *limit - wanted) return absl::OkStatus();
  return MakeError(
      StatusCode::kResourceExhausted, "NO_SPACE",
      absl::StrCat("The quota ", quota, " of workspace ", project, " is ",
                   *limit, "; ", used, " are used, and ", wanted,
                   " more would exceed it: delete files, or raise the quota"),
      {{"project", project},
       {"quota", std::string(quota)},
       {"limit", absl::StrCat(*limit)},
       {"used", absl::StrCat(used)},
       {"wanted", absl::StrCat(wanted)}});
}

absl::Status CheckQuota(const std::string& project,
                        const FakeArtifacts::Quota& quota,
                        const FakeArtifacts::Amount& used,
                        const FakeArtifacts::Amount& wanted) {
  RETURN_IF_ERROR(CheckLimit(project, "max_size_bytes", quota.max_size_bytes,
                             used.size_bytes, wanted.size_bytes));
  return CheckLimit(project, "max_file_count", quota.max_file_count,
                    used.file_count, wanted.file_count);
}

absl::Status PathInvalid(const std::string& path, const std::string& problem) {
  return MakeError(StatusCode::kInvalidArgument, "PATH_INVALID",
                   absl::StrCat("path ", path, " ", problem),
                   {{"path", path}, {"problem", problem}});
}

absl::Status OfPath(StatusCode code, absl::string_view reason,
                    const std::string& project, const std::string& path,
                    const std::string& problem) {
  return MakeError(
      code, std::string(reason), absl::StrCat(path, ": ", problem),
      {{"project", project}, {"path", path}, {"problem", problem}});
}

absl::Status NotFound(const std::string& project, const std::string& path) {
  return OfPath(StatusCode::kNotFound, "ARTIFACT_NOT_FOUND", project, path,
                "does not exist");
}

absl::Status Exists(const std::string& project, const std::string& path) {
  return OfPath(StatusCode::kAlreadyExists, "ARTIFACT_EXISTS", project, path,
                "exists already");
}

absl::Status Unsuitable(const std::string& project, const std::string& path,
                        const std::string& problem) {
  return OfPath(StatusCode::kFailedPrecondition, "PATH_UNSUITABLE", project,
                path, problem);
}

absl::Status CheckPath(const std::string& path) {
  if (path.empty()) {
    return MakeError(StatusCode::kInvalidArgument, "FIELD_INVALID",
                     "path: is required",
                     {{"field", "path"}, {"problem", "is required"}});
  }
  if (path.size() > kMaxPathBytes) return PathInvalid(path, "is too long");
  const std::vector<std::string> names = absl::StrSplit(path, '/');
  for (const std::string& name : names) {
    const bool valid =
        !name.empty() && name.size() <= kMaxNameBytes && name != "." &&
        name != ".." &&
        std::none_of(name.begin(), name.end(), [](unsigned char c) {
          return absl::ascii_iscntrl(c) || c == '\\';
        });
    if (!valid) return PathInvalid(path, "has a name that is not allowed");
  }
  const auto top = std::find(std::begin(kDirectories), std::end(kDirectories),
                             names.front());
  return top == std::end(kDirectories)
             ? PathInvalid(path, "is not in one of the workspace's directories")
             : absl::OkStatus();
}

// Returns an error if `path` is invalid or one of the five directories, which
// callers can neither move nor delete nor replace.
absl::Status CheckBelowTop(const std::string& path) {
  RETURN_IF_ERROR(CheckPath(path));
  return path.find('/') == std::string::npos
             ? PathInvalid(path, "is one of the workspace's own directories")
             : absl::OkStatus();
}

absl::Status CheckEtag(const std::string& project, const v1::Artifact& artifact,
                       const std::string& etag) {
  if (etag.empty() || etag == artifact.etag()) return absl::OkStatus();
  return MakeError(
      StatusCode::kAborted, "ETAG_MISMATCH",
      absl::StrCat(artifact.path(), " has changed; read it again, then retry"),
      {{"project", project},
       {"path", artifact.path()},
       {"etag", etag},
       {"current_etag", artifact.etag()}});
}

bool IsBelow(const std::string& path, const std::string& directory) {
  return path.size() > directory.size() &&
         path.compare(0, directory.size(), directory) == 0 &&
         path[directory.size()] == '/';
}

std::string ParentOf(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

std::string Sha256Of(const std::string& content) {
  base::Sha256 sha256;
  sha256.Update(content);
  return sha256.Finish();
}

google::protobuf::Timestamp Now() {
  return google::protobuf::util::TimeUtil::NanosecondsToTimestamp(
      absl::GetCurrentTimeNanos());
}

FakeArtifacts::File Directory(const std::string& path) {
  FakeArtifacts::File file;
  file.artifact.set_path(path);
  file.artifact.set_directory(true);
  *file.artifact.mutable_modify_time() = Now();
  return file;
}

}  // namespace

bool FakeArtifacts::Before::operator()(const std::string& a,
                                       const std::string& b) const {
  const auto rank = [](char c) {
    return c == '/' ? 0 : 1 + static_cast<unsigned char>(c);
  };
  return std::lexicographical_compare(
      a.begin(), a.end(), b.begin(), b.end(),
      [&](char c, char d) { return rank(c) < rank(d); });
}

FakeArtifacts::Tree::Tree() {
  for (const char* name : kDirectories) files[name] = Directory(name);
}

absl::StatusOr<FakeArtifacts::File*> FakeArtifacts::Find(
    Tree& tree, const std::string& project, const std::string& path) {
  RETURN_IF_ERROR(CheckPath(path));
  if (const auto it = tree.files.find(path); it != tree.files.end())
    return &it->second;
  const auto parent = tree.files.find(ParentOf(path));
  if (parent != tree.files.end() && !parent->second.artifact.directory()) {
    return Unsuitable(project, path, "leads through a file");
  }
  return NotFound(project, path);
}

absl::StatusOr<FakeArtifacts::File*> FakeArtifacts::FindFile(
    Tree& tree, const std::string& project, const std::string& path,
    const std::string& etag) {
  ASSIGN_OR_RETURN(File* const file, Find(tree, project, path));
  if (file->content == nullptr)
    return Unsuitable(project, path, "is a directory");
  RETURN_IF_ERROR(CheckEtag(project, file->artifact, etag));
  return file;
}

absl::Status FakeArtifacts::MakeWay(Tree& tree, const std::string& project,
                                    const std::string& path, bool create_only) {
  RETURN_IF_ERROR(CheckBelowTop(path));
  for (size_t end = path.find('/'); end != std::string::npos;
       end = path.find('/', end + 1)) {
    const std::string directory = path.substr(0, end);
    const auto it =
        tree.files.try_emplace(directory, Directory(directory)).first;
    if (!it->second.artifact.directory())
      return Unsuitable(project, path, "leads through a file");
  }
  if (create_only && tree.files.count(path) > 0) return Exists(project, path);
  return absl::OkStatus();
}

const v1::Artifact& FakeArtifacts::Put(Tree& tree, const std::string& path,
                                       Content content) {
  File& file = tree.files[path];
  file.artifact.set_path(path);
  file.artifact.set_size_bytes(static_cast<int64_t>(content->size()));
  *file.artifact.mutable_modify_time() = Now();
  file.artifact.set_etag(absl::StrFormat("%016x", ++last_etag_));
  file.content = std::move(content);
  return file.artifact;
}

absl::StatusOr<v1::Artifact> FakeArtifacts::Get(
    const std::string& uid, const v1::GetArtifactRequest& request) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  if (!request.checksum()) {
    ASSIGN_OR_RETURN(const File* const file,
                     Find(tree, request.project(), request.path()));
    return file->artifact;
  }
  ASSIGN_OR_RETURN(const File* const file,
                   FindFile(tree, request.project(), request.path(), ""));
  v1::Artifact artifact = file->artifact;
  artifact.set_sha256(Sha256Of(*file->content));
  return artifact;
}

// The page token is the last path of the previous page.
absl::StatusOr<v1::ListArtifactsResponse> FakeArtifacts::List(
    const std::string& uid, const v1::ListArtifactsRequest& request) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  const std::string& top = request.path();
  if (!top.empty()) {
    ASSIGN_OR_RETURN(const File* const file,
                     Find(tree, request.project(), top));
    if (!file->artifact.directory())
      return Unsuitable(request.project(), top, "is not a directory");
  }
  if (request.page_size() < 0) {
    return MakeError(
        StatusCode::kInvalidArgument, "FIELD_INVALID",
        "page_size: must not be negative",
        {{"field", "page_size"}, {"problem", "must not be negative"}});
  }
  const int size = request.page_size() == 0
                       ? 100
                       : std::min(request.page_size(), kMaxPageSize);
  v1::ListArtifactsResponse response;
  for (auto it = tree.files.upper_bound(request.page_token());
       it != tree.files.end(); ++it) {
    // The path relative to the listed directory, or "" if it is elsewhere.
    const std::string& path = it->first;
    // The map holds all paths in order, so skip those outside the directory.
    const std::string within = top.empty() ? path
                               : IsBelow(path, top)
                                   ? path.substr(top.size() + 1)
                                   : "";
    if (within.empty() ||
        (!request.recursive() && within.find('/') != std::string::npos))
      continue;
    if (response.artifacts_size() == size) {
      response.set_next_page_token(response.artifacts(size - 1).path());
      break;
    }
    *response.add_artifacts() = it->second.artifact;
  }
  return response;
}

absl::StatusOr<v1::DeleteArtifactResponse> FakeArtifacts::Delete(
    const std::string& uid, const v1::DeleteArtifactRequest& request) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  RETURN_IF_ERROR(CheckBelowTop(request.path()));
  const auto file = Find(tree, request.project(), request.path());
  if (absl::IsNotFound(file.status()) && request.allow_missing())
    return v1::DeleteArtifactResponse();
  RETURN_IF_ERROR(file.status());
  RETURN_IF_ERROR(
      CheckEtag(request.project(), (*file)->artifact, request.etag()));
  // A directory and its contents are adjacent in the order of the map.
  const auto begin = tree.files.find(request.path());
  const auto end = std::find_if(
      std::next(begin), tree.files.end(),
      [&](const auto& f) { return !IsBelow(f.first, request.path()); });
  if (std::next(begin) != end && !request.force()) {
    return OfPath(StatusCode::kFailedPrecondition, "FORCE_REQUIRED",
                  request.project(), request.path(), "is not empty");
  }
  v1::DeleteArtifactResponse response;
  for (auto it = begin; it != end; it = tree.files.erase(it)) {
    if (it->second.content == nullptr) continue;
    response.set_file_count(response.file_count() + 1);
    response.set_size_bytes(response.size_bytes() +
                            it->second.artifact.size_bytes());
  }
  return response;
}

absl::StatusOr<v1::Artifact> FakeArtifacts::Move(
    const std::string& uid, const v1::MoveArtifactRequest& request) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  const std::string& from = request.path();
  const std::string& to = request.destination_path();
  RETURN_IF_ERROR(CheckBelowTop(from));
  ASSIGN_OR_RETURN(const File* const file, Find(tree, request.project(), from));
  RETURN_IF_ERROR(CheckEtag(request.project(), file->artifact, request.etag()));
  if (file->artifact.directory() && IsBelow(to, from))
    return PathInvalid(to, "is inside the directory that is moved");
  RETURN_IF_ERROR(MakeWay(tree, request.project(), to, request.create_only()));
  if (from == to) return file->artifact;
  if (const auto it = tree.files.find(to); it != tree.files.end()) {
    if (it->second.artifact.directory() != file->artifact.directory()) {
      return Unsuitable(
          request.project(), to,
          "a file cannot replace a directory, nor a directory a file");
    }
    const auto next = std::next(it);
    if (next != tree.files.end() && IsBelow(next->first, to))
      return Exists(request.project(), to);
  }
  // Take all entries out before inserting them under their new names, so that
  // the loop never meets an entry twice.
  std::vector<std::pair<std::string, File>> moved;
  for (auto it = tree.files.find(from);
       it != tree.files.end() &&
       (it->first == from || IsBelow(it->first, from));) {
    moved.emplace_back(to + it->first.substr(from.size()),
                       std::move(it->second));
    it = tree.files.erase(it);
  }
  for (auto& [path, moved_file] : moved) {
    moved_file.artifact.set_path(path);
    if (moved_file.content != nullptr)
      moved_file.artifact.set_etag(absl::StrFormat("%016x", ++last_etag_));
    tree.files[path] = std::move(moved_file);
  }
  return tree.files[to].artifact;
}

FakeArtifacts::Amount FakeArtifacts::Total(const Tree& tree) {
  Amount total;
  for (const auto& [path, file] : tree.files) {
    if (file.content == nullptr) continue;
    ++total.file_count;
    total.size_bytes += file.artifact.size_bytes();
  }
  return total;
}

std::map<std::string, FakeArtifacts::Amount> FakeArtifacts::Usage(
    const std::string& uid) {
  absl::MutexLock lock(&mutex_);
  std::map<std::string, Amount> usage;
  for (const auto& [path, file] : trees_[uid].files) {
    if (file.content == nullptr) continue;
    Amount& amount = usage[path.substr(0, path.find('/'))];
    ++amount.file_count;
    amount.size_bytes += file.artifact.size_bytes();
  }
  return usage;
}

absl::Status FakeArtifacts::CheckRoomIn(const Tree& tree,
                                        const std::string& project,
                                        const Quota& quota,
                                        const std::string& path,
                                        int64_t size_bytes) {
  Amount wanted{.file_count = 1, .size_bytes = size_bytes};
  const auto old = tree.files.find(path);
  if (old != tree.files.end() && old->second.content != nullptr) {
    wanted.file_count = 0;
    wanted.size_bytes -= old->second.artifact.size_bytes();
  }
  return CheckQuota(project, quota, quota.used ? *quota.used : Total(tree),
                    wanted);
}

absl::Status FakeArtifacts::CheckRoom(const std::string& uid,
                                      const std::string& project,
                                      const Quota& quota,
                                      const std::string& path,
                                      int64_t size_bytes) {
  absl::MutexLock lock(&mutex_);
  return CheckRoomIn(trees_[uid], project, quota, path, size_bytes);
}

absl::Status FakeArtifacts::CheckRoomForAll(const std::string& uid,
                                            const std::string& project,
                                            const Quota& quota) {
  absl::MutexLock lock(&mutex_);
  return CheckQuota(project, quota, Amount(), Total(trees_[uid]));
}

void FakeArtifacts::Clone(const std::string& from_uid,
                          const std::string& to_uid,
                          const std::vector<std::string>& directories) {
  absl::MutexLock lock(&mutex_);
  Tree& to = trees_[to_uid];
  for (const auto& [path, file] : trees_[from_uid].files) {
    const std::string top = path.substr(0, path.find('/'));
    if (!directories.empty() &&
        std::find(directories.begin(), directories.end(), top) ==
            directories.end())
      continue;
    if (file.content == nullptr) {
      to.files[path] = file;
    } else {
      Put(to, path, file.content);
    }
  }
}

absl::StatusOr<v1::Artifact> FakeArtifacts::Copy(
    const std::string& uid, const Quota& quota,
    const v1::CopyArtifactRequest& request) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  ASSIGN_OR_RETURN(
      const File* const file,
      FindFile(tree, request.project(), request.path(), request.etag()));
  const Content content = file->content;
  RETURN_IF_ERROR(MakeWay(tree, request.project(), request.destination_path(),
                          request.create_only()));
  const auto it = tree.files.find(request.destination_path());
  if (it != tree.files.end() && it->second.artifact.directory()) {
    return Unsuitable(request.project(), request.destination_path(),
                      "is a directory");
  }
  RETURN_IF_ERROR(CheckRoomIn(tree, request.project(), quota,
                              request.destination_path(),
                              static_cast<int64_t>(content->size())));
  return Put(tree, request.destination_path(), content);
}

absl::StatusOr<v1::Artifact> FakeArtifacts::MakeDirectory(
    const std::string& uid, const v1::MakeDirectoryRequest& request) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  RETURN_IF_ERROR(CheckPath(request.path()));
  // MakeWay() creates only parents, so pass the path of an entry inside the
  // directory.
  RETURN_IF_ERROR(MakeWay(tree, request.project(), request.path() + "/x",
                          /*create_only=*/false));
  return tree.files[request.path()].artifact;
}

absl::StatusOr<v1::Upload> FakeArtifacts::GetUpload(
    const std::string& uid, const v1::GetUploadRequest& request) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  if (const auto it = tree.uploads.find(request.upload_id());
      it != tree.uploads.end())
    return it->second.state;
  return MakeError(
      StatusCode::kNotFound, "UPLOAD_NOT_FOUND",
      "There is no upload " + request.upload_id(),
      {{"project", request.project()}, {"upload_id", request.upload_id()}});
}

absl::StatusOr<FakeArtifacts::File> FakeArtifacts::OpenForRead(
    const std::string& uid, const v1::ReadArtifactRequest& request) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(
      const File* const file,
      FindFile(trees_[uid], request.project(), request.path(), request.etag()));
  if (request.offset() <= file->artifact.size_bytes()) return *file;
  return MakeError(StatusCode::kOutOfRange, "OFFSET_OUT_OF_RANGE",
                   absl::StrCat(request.path(), " has only ",
                                file->artifact.size_bytes(), " bytes"),
                   {{"project", request.project()},
                    {"path", request.path()},
                    {"offset", absl::StrCat(request.offset())},
                    {"size_bytes", absl::StrCat(file->artifact.size_bytes())}});
}

absl::Status FakeArtifacts::CheckReplaceable(
    Tree& tree, const v1::WriteArtifactRequest& first) {
  RETURN_IF_ERROR(
      MakeWay(tree, first.project(), first.path(), first.create_only()));
  const auto it = tree.files.find(first.path());
  const bool there = it != tree.files.end();
  if (there && it->second.artifact.directory())
    return Unsuitable(first.project(), first.path(), "is a directory");
  // A missing file has an empty etag, which matches no etag that a caller sets.
  v1::Artifact current;
  current.set_path(first.path());
  return CheckEtag(first.project(), there ? it->second.artifact : current,
                   first.etag());
}

absl::StatusOr<std::string> FakeArtifacts::OpenForWrite(
    const std::string& uid, const v1::WriteArtifactRequest& first) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  RETURN_IF_ERROR(CheckReplaceable(tree, first));
  const auto it = tree.uploads.find(first.upload_id());
  std::string content = it == tree.uploads.end() ? "" : it->second.content;
  if (static_cast<int64_t>(content.size()) == first.offset()) return content;
  return MakeError(StatusCode::kOutOfRange, "UPLOAD_OFFSET_MISMATCH",
                   absl::StrCat("The upload has ", content.size(),
                                " bytes; resume it there"),
                   {{"project", first.project()},
                    {"upload_id", first.upload_id()},
                    {"offset", absl::StrCat(first.offset())},
                    {"committed_offset", absl::StrCat(content.size())}});
}

void FakeArtifacts::Keep(const std::string& uid,
                         const v1::WriteArtifactRequest& first,
                         const std::string& content) {
  if (first.upload_id().empty()) return;
  absl::MutexLock lock(&mutex_);
  Upload& upload = trees_[uid].uploads[first.upload_id()];
  upload.content = content;
  upload.state.set_upload_id(first.upload_id());
  upload.state.set_path(first.path());
  upload.state.set_offset(static_cast<int64_t>(content.size()));
}

absl::StatusOr<v1::Artifact> FakeArtifacts::Finish(
    const std::string& uid, const Quota& quota,
    const v1::WriteArtifactRequest& first, std::string content,
    const std::string& sha256) {
  absl::MutexLock lock(&mutex_);
  Tree& tree = trees_[uid];
  const std::string actual = Sha256Of(content);
  if (!sha256.empty() && absl::AsciiStrToLower(sha256) != actual) {
    tree.uploads.erase(first.upload_id());
    return MakeError(
        StatusCode::kInvalidArgument, "CHECKSUM_MISMATCH",
        absl::StrCat(first.path(), " has SHA-256 ", actual, ", not ", sha256),
        {{"project", first.project()},
         {"path", first.path()},
         {"expected_sha256", sha256},
         {"actual_sha256", actual}});
  }
  RETURN_IF_ERROR(CheckReplaceable(tree, first));
  RETURN_IF_ERROR(CheckRoomIn(tree, first.project(), quota, first.path(),
                              static_cast<int64_t>(content.size())));
  v1::Artifact artifact =
      Put(tree, first.path(),
          std::make_shared<const std::string>(std::move(content)));
  artifact.set_sha256(actual);
  if (first.upload_id().empty()) return artifact;
  Upload& upload = tree.uploads[first.upload_id()];
  upload.content.clear();
  upload.state.set_upload_id(first.upload_id());
  upload.state.set_path(first.path());
  upload.state.set_offset(artifact.size_bytes());
  *upload.state.mutable_artifact() = artifact;
  return artifact;
}

std::optional<v1::Artifact> FakeArtifacts::Discard(
    const std::string& uid, const std::string& upload_id) {
  absl::MutexLock lock(&mutex_);
  auto& uploads = trees_[uid].uploads;
  const auto it = uploads.find(upload_id);
  if (it == uploads.end()) return std::nullopt;
  if (it->second.state.has_artifact()) return it->second.state.artifact();
  uploads.erase(it);
  return std::nullopt;
}

}  // namespace mlops::testing
