#include "mlops/testing/fake_workspace_service.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/convert.h"
#include "client-cpp/testing/fake_artifacts.h"
#include "client-cpp/testing/fake_rules.h"
#include "client-cpp/testing/fake_streams.h"
#include "google/protobuf/util/time_util.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/field_invalid.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/wire_status.h"

namespace mlops::testing {
namespace {

namespace v1 = workspace::v1;
using absl::StatusCode;
using google::protobuf::FieldDescriptor;
using google::protobuf::util::TimeUtil;

constexpr const char* kDirectories[] = {"mlflow", "dvc", "monitoring", "models",
                                        "outputs"};
constexpr int64_t kPurgeDelaySeconds = 72 * 3600;
constexpr int kMaxPageSize = 1000;
constexpr int64_t kDefaultTtlSeconds = 60;
constexpr int64_t kMaxTtlSeconds = 24 * 3600;

}  // namespace

absl::Status MakeError(absl::StatusCode code, std::string_view reason,
                       std::string_view message,
                       const std::map<std::string, std::string>& metadata) {
  return base::MakeError(code, std::string(message),
                         {.reason = std::string(reason), .metadata = metadata});
}

// Implements the client's Connection. One lock guards all state, because no
// operation takes long.
class FakeWorkspaceService::State final : public internal::Connection {
 public:
  void FailNext(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    failures_.push_back(std::move(status));
  }

  void SetUsage(std::string_view project,
                std::vector<DirectoryUsage> directories) {
    absl::MutexLock lock(&mutex_);
    usage_[std::string(project)] = std::move(directories);
  }

  void AddTemplate(Template added) {
    absl::MutexLock lock(&mutex_);
    std::string name = added.name;
    templates_[std::move(name)] = std::move(added);
  }

  absl::StatusOr<v1::Workspace> CreateWorkspace(
      const v1::CreateWorkspaceRequest& request, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(request.project()));
    RETURN_IF_ERROR(
        rules::CheckSameProject(request.project(), request.workspace()));
    RETURN_IF_ERROR(rules::CheckLimits(request.workspace()));
    ASSIGN_OR_RETURN(const v1::Workspace values,
                     WithTemplate(request.template_(), request.workspace()));
    if (const auto it = live_.find(request.project()); it != live_.end()) {
      // A repeated Create with the same request id returns the existing
      // workspace.
      const auto made_by = request_ids_.find(it->second.uid());
      const bool repeated = made_by != request_ids_.end() &&
                            made_by->second == request.request_id();
      return repeated ? absl::StatusOr<v1::Workspace>(it->second)
                      : rules::Exists(it->second);
    }
    const v1::Workspace workspace = Make(request.project(), values);
    if (request.validate_only()) return workspace;
    if (!request.request_id().empty())
      request_ids_[workspace.uid()] = request.request_id();
    return Store(v1::CHANGE_CREATED, workspace);
  }

  absl::StatusOr<v1::Workspace> GetWorkspace(
      const v1::GetWorkspaceRequest& request, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(request.project()));
    const auto it = live_.find(request.project());
    if (it == live_.end()) return rules::NotFound(request.project());
    return Shown(it->second);
  }

  absl::StatusOr<v1::Lease> AcquireLease(const v1::AcquireLeaseRequest& request,
                                         const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    const std::string& project = request.project();
    RETURN_IF_ERROR(Begin(project));
    RETURN_IF_ERROR(rules::CheckHolder(request.holder()));
    google::protobuf::Duration ttl =
        TimeUtil::SecondsToDuration(kDefaultTtlSeconds);
    if (request.has_ttl()) ttl = request.ttl();
    if (ttl < TimeUtil::SecondsToDuration(1) ||
        ttl > TimeUtil::SecondsToDuration(kMaxTtlSeconds))
      return base::FieldInvalid("ttl", "must be 1 s to 24 h");
    if (live_.count(project) == 0) return rules::NotFound(project);
    const v1::Lease* const held = FindLease(project);
    if (held != nullptr && held->holder() != request.holder())
      return rules::LeaseHeld(project, *held);
    v1::Lease& lease = leases_[project];
    if (held == nullptr) {
      lease.set_holder(request.holder());
      lease.set_fence(++last_fence_);
      *lease.mutable_acquire_time() = rules::ToTimestamp(absl::Now());
    }
    *lease.mutable_expire_time() = rules::ToTimestamp(absl::Now()) + ttl;
    // A renewal is not reported as a change. Return a copy, which later changes
    // of the lease do not affect.
    const v1::Lease acquired = lease;
    if (held == nullptr) Report(v1::CHANGE_UPDATED, live_[project]);
    return acquired;
  }

  absl::StatusOr<v1::ReleaseLeaseResponse> ReleaseLease(
      const v1::ReleaseLeaseRequest& request, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    const std::string& project = request.project();
    RETURN_IF_ERROR(Begin(project));
    if (!request.force() || !request.holder().empty())
      RETURN_IF_ERROR(rules::CheckHolder(request.holder()));
    if (live_.count(project) == 0) return rules::NotFound(project);
    const v1::Lease* const held = FindLease(project);
    if (held != nullptr && !request.force() &&
        held->holder() != request.holder())
      return rules::LeaseHeld(project, *held);
    if (leases_.erase(project) > 0) Report(v1::CHANGE_UPDATED, live_[project]);
    return v1::ReleaseLeaseResponse();
  }

  absl::StatusOr<v1::ListWorkspacesResponse> ListWorkspaces(
      const v1::ListWorkspacesRequest& request, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(TakeFailure());
    if (request.page_size() < 0)
      return base::FieldInvalid("page_size", "must not be negative");
    RETURN_IF_ERROR(rules::CheckNoFilter(request.filter()));
    ASSIGN_OR_RETURN(const rules::Order order,
                     rules::Order::Parse(request.order_by()));
    const auto ordered = Ordered(order, request.show_deleted());
    v1::ListWorkspacesResponse response;
    response.set_total_size(static_cast<int32_t>(ordered.size()));
    if (request.page_token().empty())
      response.set_resume_token(TokenAt(changes_.size()));
    const int size = request.page_size() == 0
                         ? 100
                         : std::min(request.page_size(), kMaxPageSize);
    // A page's token is the key of its last workspace.
    std::string last;
    for (const auto& [key, workspace] : ordered) {
      if (!request.page_token().empty() &&
          !order.Before(request.page_token(), key))
        continue;
      if (response.workspaces_size() == size) {
        response.set_next_page_token(last);
        break;
      }
      *response.add_workspaces() = Shown(*workspace);
      last = key;
    }
    return response;
  }

  absl::StatusOr<v1::Workspace> UpdateWorkspace(
      const v1::UpdateWorkspaceRequest& request, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    const std::string& project = request.workspace().project();
    RETURN_IF_ERROR(Begin(project));
    const auto it = live_.find(project);
    if (it == live_.end() && !request.allow_missing())
      return rules::NotFound(project);
    RETURN_IF_ERROR(CheckFence(project, request.fence()));
    v1::Workspace workspace =
        it == live_.end() ? Make(project, {}) : it->second;
    if (it != live_.end())
      RETURN_IF_ERROR(rules::CheckEtag(workspace, request.workspace().etag()));
    RETURN_IF_ERROR(rules::Apply(request, workspace));
    workspace.set_etag(NextId());
    *workspace.mutable_update_time() = Now();
    if (!request.validate_only()) {
      Store(it == live_.end() ? v1::CHANGE_CREATED : v1::CHANGE_UPDATED,
            workspace);
    }
    return Shown(workspace);
  }

  absl::StatusOr<v1::DeleteWorkspaceResponse> DeleteWorkspace(
      const v1::DeleteWorkspaceRequest& request, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(request.project()));
    if (!request.force()) {
      return MakeError(StatusCode::kFailedPrecondition, "FORCE_REQUIRED",
                       "Workspace deletion requires \"force\": true for safety",
                       {{"project", request.project()},
                        {"path", "/fake/" + request.project()}});
    }
    if (request.only_deleted() &&
        !(request.permanent() && !request.uid().empty())) {
      return base::FieldInvalid("only_deleted", "requires permanent and uid");
    }
    v1::Workspace* const workspace = FindToDelete(request);
    if (workspace == nullptr && !request.allow_missing())
      return rules::NotFound(request.project());
    v1::DeleteWorkspaceResponse response;
    if (workspace == nullptr) return response;
    // A lease protects only live workspaces.
    if (!workspace->has_delete_time())
      RETURN_IF_ERROR(CheckFence(request.project(), request.fence()));
    RETURN_IF_ERROR(rules::CheckEtag(*workspace, request.etag()));
    *response.mutable_workspace() =
        request.validate_only() ? Shown(*workspace) : *workspace;
    if (request.permanent() || request.validate_only()) {
      const v1::WorkspaceStatus usage = StatusOf(*workspace);
      response.set_file_count(usage.file_count());
      response.set_size_bytes(usage.size_bytes());
    }
    if (!request.validate_only())
      Remove(*workspace, request.permanent(), response);
    return response;
  }

  absl::StatusOr<v1::EnsureWorkspaceResponse> EnsureWorkspace(
      const v1::EnsureWorkspaceRequest& request, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(request.project()));
    RETURN_IF_ERROR(
        rules::CheckSameProject(request.project(), request.workspace()));
    RETURN_IF_ERROR(rules::CheckLimits(request.workspace()));
    ASSIGN_OR_RETURN(const v1::Workspace values,
                     WithTemplate(request.template_(), request.workspace()));
    v1::EnsureWorkspaceResponse response;
    response.set_created(live_.count(request.project()) == 0);
    if (response.created())
      Store(v1::CHANGE_CREATED, Make(request.project(), values));
    *response.mutable_workspace() = Shown(live_[request.project()]);
    return response;
  }

  absl::StatusOr<v1::Workspace> UndeleteWorkspace(
      const v1::UndeleteWorkspaceRequest& request,
      const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(request.project()));
    const auto trashed = FindTrashed(request.project(), request.uid());
    if (trashed == trash_.end()) return rules::NotFound(request.project());
    if (const auto it = live_.find(request.project()); it != live_.end())
      return rules::Exists(it->second);
    v1::Workspace workspace = *trashed;
    trash_.erase(trashed);
    workspace.clear_delete_time();
    workspace.clear_purge_time();
    return Store(v1::CHANGE_CREATED, workspace);
  }

  absl::Status WatchWorkspaces(
      const v1::WatchWorkspacesRequest& request, const CallOptions& call,
      const std::function<bool(const v1::WatchWorkspacesResponse&)>& visit)
      override {
    // Acquiring the lock makes the wait below check the stop request again.
    const std::stop_callback on_stop(call.stop,
                                     [this] { absl::MutexLock lock(&mutex_); });
    const absl::Time deadline =
        absl::Now() + call.timeout.value_or(absl::InfiniteDuration());
    std::vector<v1::WatchWorkspacesResponse> news;
    size_t seen = 0;
    {
      absl::MutexLock lock(&mutex_);
      RETURN_IF_ERROR(TakeFailure());
      ASSIGN_OR_RETURN(seen, BeginWatch(request, news));
    }
    while (true) {
      // Do not hold the lock, because `visit` may use the client.
      for (const v1::WatchWorkspacesResponse& response : news) {
        if (!visit(response)) return absl::OkStatus();
      }
      news.clear();
      const auto is_awake = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return changes_.size() > seen || !failures_.empty() ||
               call.stop.stop_requested();
      };
      absl::MutexLock lock(&mutex_);
      // Wake up when the next lease expires, because watches report that.
      const absl::Time expiry = EndExpiredLeases();
      if (!mutex_.AwaitWithDeadline(absl::Condition(&is_awake),
                                    std::min(deadline, expiry)) &&
          absl::Now() >= deadline)
        return absl::DeadlineExceededError("The watch exceeded its timeout");
      if (call.stop.stop_requested())
        return absl::CancelledError("The call was stopped");
      RETURN_IF_ERROR(TakeFailure());
      TakeNews(request, seen, news);
    }
  }

  absl::StatusOr<v1::CloneWorkspaceResponse> CloneWorkspace(
      const v1::CloneWorkspaceRequest& request, const CallOptions&,
      const std::function<bool(const v1::CloneWorkspaceResponse&)>& visit)
      override {
    v1::CloneWorkspaceResponse last;
    {
      absl::MutexLock lock(&mutex_);
      RETURN_IF_ERROR(Begin(request.project()));
      ASSIGN_OR_RETURN(*last.mutable_workspace(), CloneLocked(request));
    }
    // Do not hold the lock, because `visit` may use the client.
    visit(last);
    return last;
  }

  absl::StatusOr<v1::ListTemplatesResponse> ListTemplates(
      const v1::ListTemplatesRequest&, const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(TakeFailure());
    v1::ListTemplatesResponse response;
    for (const auto& [name, known] : templates_) {
      v1::Template& message = *response.add_templates();
      message.set_name(name);
      if (!known.error.ok()) {
        *message.mutable_error() = wire::ToProto(known.error);
        continue;
      }
      message.set_description(known.description);
      *message.mutable_defaults() = internal::ToProto("", known.settings);
      for (const std::string& path : known.paths) message.add_directories(path);
    }
    return response;
  }

  absl::StatusOr<v1::WorkspaceStatus> GetWorkspaceStatus(
      const v1::GetWorkspaceStatusRequest& request,
      const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(request.project()));
    if (!request.uid().empty()) {
      const auto trashed = FindTrashed(request.project(), request.uid());
      if (trashed == trash_.end()) return rules::NotFound(request.project());
      return StatusOf(*trashed, request.counts_only());
    }
    const auto it = live_.find(request.project());
    if (it == live_.end()) return rules::NotFound(request.project());
    return StatusOf(it->second, request.counts_only());
  }

  absl::Status StreamWorkspaceStatuses(
      const v1::StreamWorkspaceStatusesRequest& request, const CallOptions&,
      const std::function<bool(const v1::WorkspaceStatus&)>& visit) override {
    // Collect the statuses first, and call `visit` without the lock, because it
    // may use the client.
    std::vector<v1::WorkspaceStatus> statuses;
    {
      absl::MutexLock lock(&mutex_);
      RETURN_IF_ERROR(TakeFailure());
      RETURN_IF_ERROR(rules::CheckNoFilter(request.filter()));
      for (const auto& [project, workspace] : live_)
        statuses.push_back(StatusOf(workspace, request.counts_only()));
      for (const v1::Workspace& workspace : trash_) {
        if (request.show_deleted())
          statuses.push_back(StatusOf(workspace, request.counts_only()));
      }
    }
    for (const v1::WorkspaceStatus& status : statuses) {
      if (!visit(status)) break;
    }
    return absl::OkStatus();
  }

  // A fake archive is the name of a copy that the fake keeps, so only the same
  // fake can import it.
  absl::Status ExportWorkspace(
      const v1::ExportWorkspaceRequest& request, const CallOptions&,
      const std::function<absl::Status(const v1::ExportWorkspaceResponse&)>&
          visit) override {
    v1::ExportWorkspaceResponse response;
    {
      absl::MutexLock lock(&mutex_);
      RETURN_IF_ERROR(Begin(request.project()));
      const auto it = live_.find(request.project());
      if (it == live_.end()) return rules::NotFound(request.project());
      const std::string name = "fake archive " + NextId();
      artifacts_.Clone(
          it->second.uid(), name,
          {request.directories().begin(), request.directories().end()});
      archives_[name] = it->second;
      response.set_data(name);
    }
    return visit(response);
  }

  absl::StatusOr<v1::ImportWorkspaceResponse> ImportWorkspace(
      const CallOptions&,
      const std::function<absl::StatusOr<bool>(v1::ImportWorkspaceRequest*)>&
          next,
      const std::function<absl::Status(int64_t)>& acknowledged) override {
    v1::ImportWorkspaceRequest first;
    std::string archive;
    while (true) {
      v1::ImportWorkspaceRequest message;
      ASSIGN_OR_RETURN(const bool more, next(&message));
      if (!more) break;
      archive += message.data();
      if (first.project().empty()) first = message;
    }
    ASSIGN_OR_RETURN(v1::ImportWorkspaceResponse response,
                     Import(first, archive));
    RETURN_IF_ERROR(acknowledged(response.offset()));
    return response;
  }

  absl::StatusOr<v1::Artifact> GetArtifact(
      const v1::GetArtifactRequest& request, const CallOptions&) override {
    ASSIGN_OR_RETURN(const std::string uid, UidOf(request.project()));
    return artifacts_.Get(uid, request);
  }

  absl::StatusOr<v1::ListArtifactsResponse> ListArtifacts(
      const v1::ListArtifactsRequest& request, const CallOptions&) override {
    ASSIGN_OR_RETURN(const std::string uid, UidOf(request.project()));
    return artifacts_.List(uid, request);
  }

  absl::StatusOr<v1::Upload> GetUpload(const v1::GetUploadRequest& request,
                                       const CallOptions&) override {
    ASSIGN_OR_RETURN(const std::string uid, UidOf(request.project()));
    return artifacts_.GetUpload(uid, request);
  }

  absl::StatusOr<v1::DeleteArtifactResponse> DeleteArtifact(
      const v1::DeleteArtifactRequest& request, const CallOptions&) override {
    ASSIGN_OR_RETURN(const std::string uid,
                     UidOf(request.project(), request.fence()));
    return artifacts_.Delete(uid, request);
  }

  absl::StatusOr<v1::Artifact> MoveArtifact(
      const v1::MoveArtifactRequest& request, const CallOptions&) override {
    ASSIGN_OR_RETURN(const std::string uid,
                     UidOf(request.project(), request.fence()));
    return artifacts_.Move(uid, request);
  }

  absl::StatusOr<v1::Artifact> CopyArtifact(
      const v1::CopyArtifactRequest& request, const CallOptions&) override {
    ASSIGN_OR_RETURN(const FakeWriteStream::Target target,
                     TargetOf(request.project(), request.fence()));
    return artifacts_.Copy(target.uid, target.quota, request);
  }

  absl::StatusOr<v1::Artifact> MakeDirectory(
      const v1::MakeDirectoryRequest& request, const CallOptions&) override {
    ASSIGN_OR_RETURN(const std::string uid,
                     UidOf(request.project(), request.fence()));
    return artifacts_.MakeDirectory(uid, request);
  }

  std::unique_ptr<internal::ReadStream> ReadArtifact(
      const v1::ReadArtifactRequest& request, const CallOptions&) override {
    const auto uid = UidOf(request.project());
    return std::make_unique<FakeReadStream>(
        request,
        uid.ok() ? artifacts_.OpenForRead(*uid, request) : uid.status());
  }

  std::unique_ptr<internal::WriteStream> WriteArtifact(
      const CallOptions&) override {
    return std::make_unique<FakeWriteStream>(
        &artifacts_,
        [this](const v1::WriteArtifactRequest& first) {
          return TargetOf(first.project(), first.fence());
        },
        [this](const v1::WriteArtifactRequest& first)
            -> absl::StatusOr<FakeWriteStream::Target> {
          absl::MutexLock lock(&mutex_);
          RETURN_IF_ERROR(CheckFence(first.project(), first.fence()));
          const auto it = live_.find(first.project());
          if (it == live_.end()) return rules::NotFound(first.project());
          return FakeWriteStream::Target{it->second.uid(), QuotaOf(it->second)};
        });
  }

  absl::StatusOr<v1::ServerInfo> GetServerInfo(const v1::GetServerInfoRequest&,
                                               const CallOptions&) override {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(TakeFailure());
    v1::ServerInfo info;
    info.set_version("fake");
    info.set_base_path("/fake");
    *info.mutable_start_time() = start_time_;
    info.set_workspace_count(static_cast<int32_t>(live_.size()));
    info.set_max_page_size(kMaxPageSize);
    info.mutable_purge_delay()->set_seconds(kPurgeDelaySeconds);
    info.mutable_max_lease_ttl()->set_seconds(kMaxTtlSeconds);
    return info;
  }

 private:
  using Trash = std::vector<v1::Workspace>;

  // Returns the uid of the project's workspace, or the next injected failure.
  // With `fence`, which may be 0, also checks that the workspace may be
  // changed.
  absl::StatusOr<std::string> UidOf(const std::string& project,
                                    std::optional<int64_t> fence = std::nullopt)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(project));
    const auto it = live_.find(project);
    if (it == live_.end()) return rules::NotFound(project);
    if (fence) RETURN_IF_ERROR(CheckFence(project, *fence));
    return it->second.uid();
  }

  absl::StatusOr<FakeWriteStream::Target> TargetOf(const std::string& project,
                                                   int64_t fence)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    ASSIGN_OR_RETURN(std::string uid, UidOf(project, fence));
    absl::MutexLock lock(&mutex_);
    const auto it = live_.find(project);
    if (it == live_.end()) return rules::NotFound(project);
    return FakeWriteStream::Target{std::move(uid), QuotaOf(it->second)};
  }

  FakeArtifacts::Quota QuotaOf(const v1::Workspace& workspace) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    FakeArtifacts::Quota quota;
    if (workspace.has_max_size_bytes())
      quota.max_size_bytes = workspace.max_size_bytes();
    if (workspace.has_max_file_count())
      quota.max_file_count = workspace.max_file_count();
    const auto set = usage_.find(workspace.project());
    if (set == usage_.end()) return quota;
    quota.used = FakeArtifacts::Amount{};
    for (const DirectoryUsage& directory : set->second) {
      quota.used->file_count += directory.file_count;
      quota.used->size_bytes += directory.size_bytes;
    }
    return quota;
  }

  // Returns the live lease on a project, or null.
  const v1::Lease* FindLease(const std::string& project) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto it = leases_.find(project);
    const bool is_live =
        it != leases_.end() &&
        rules::ToTimestamp(absl::Now()) < it->second.expire_time();
    return is_live ? &it->second : nullptr;
  }

  // Checks that `fence` permits a change.
  absl::Status CheckFence(const std::string& project, int64_t fence) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (fence < 0) return base::FieldInvalid("fence", "must not be negative");
    const v1::Lease* const lease = FindLease(project);
    const int64_t current = lease == nullptr ? 0 : lease->fence();
    if (fence == current) return absl::OkStatus();
    if (fence == 0) return rules::LeaseHeld(project, *lease);
    return MakeError(
        StatusCode::kFailedPrecondition, "LEASE_LOST",
        absl::StrCat("The lease on workspace ", project, " with fence ", fence,
                     " has expired or was released"),
        {{"project", project},
         {"fence", absl::StrCat(fence)},
         {"current_fence", absl::StrCat(current)}});
  }

  // Returns `workspace` with its lease.
  v1::Workspace Shown(v1::Workspace workspace) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const v1::Lease* const lease = FindLease(workspace.project());
    if (lease != nullptr && !workspace.has_delete_time())
      *workspace.mutable_lease() = *lease;
    return workspace;
  }

  // Removes and returns the next error of FailNext(), or returns OK.
  absl::Status TakeFailure() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (failures_.empty()) return absl::OkStatus();
    absl::Status failure = std::move(failures_.front());
    failures_.pop_front();
    return failure;
  }

  // Starts an RPC about `project`. Returns an error if one is queued or the
  // name is invalid.
  absl::Status Begin(const std::string& project)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    RETURN_IF_ERROR(TakeFailure());
    return rules::CheckProject(project);
  }

  absl::StatusOr<v1::ImportWorkspaceResponse> Import(
      const v1::ImportWorkspaceRequest& first, const std::string& archive)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(Begin(first.project()));
    v1::ImportWorkspaceResponse response;
    // A repeated import with the same request id returns the workspace.
    if (const auto it = live_.find(first.project()); it != live_.end()) {
      const auto made_by = request_ids_.find(it->second.uid());
      if (made_by == request_ids_.end() ||
          made_by->second != first.request_id())
        return rules::Exists(it->second);
      *response.mutable_workspace() = it->second;
      return response;
    }
    const auto archived = archives_.find(archive);
    if (archived == archives_.end()) {
      return MakeError(StatusCode::kInvalidArgument, "ARCHIVE_INVALID",
                       "The archive was not made by this fake",
                       {{"project", first.project()},
                        {"entry", ""},
                        {"problem", "was not made by this fake"}});
    }
    v1::Workspace settings = archived->second;
    // Like the server, derive the defaults again.
    const v1::Workspace defaults = Make(settings.project(), {});
    for (const char* name : rules::kSettings) {
      const FieldDescriptor* field =
          v1::Workspace::descriptor()->FindFieldByName(name);
      const auto* reflection = settings.GetReflection();
      if (reflection->GetString(settings, field) ==
          reflection->GetString(defaults, field))
        reflection->ClearField(&settings, field);
    }
    const v1::Workspace workspace = Make(first.project(), settings);
    // The files of an archive are stored under its text instead of a uid.
    RETURN_IF_ERROR(artifacts_.CheckRoomForAll(archive, first.project(),
                                               QuotaOf(workspace)));
    artifacts_.Clone(archive, workspace.uid(), {});
    if (!first.request_id().empty())
      request_ids_[workspace.uid()] = first.request_id();
    Store(v1::CHANGE_CREATED, workspace);
    *response.mutable_workspace() = workspace;
    response.set_offset(static_cast<int64_t>(archive.size()));
    return response;
  }

  std::string NextId() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return absl::StrFormat("%016x", ++last_id_);
  }

  // Returns the current time, but always a later one than before, so that
  // orders by time have no ties.
  google::protobuf::Timestamp Now() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    last_time_ = std::max(absl::Now(), last_time_ + absl::Nanoseconds(1));
    return rules::ToTimestamp(last_time_);
  }

  // Returns a new workspace with the server's defaults, without storing it.
  v1::Workspace Make(const std::string& project, const v1::Workspace& settings)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::Workspace workspace;
    workspace.set_project(project);
    workspace.set_uid(NextId());
    workspace.set_root_path("/fake/" + project);
    workspace.set_mlflow_tracking_uri(
        absl::StrCat("sqlite:///", workspace.root_path(), "/mlflow/mlflow.db"));
    workspace.set_dvc_remote_path(workspace.root_path() + "/dvc/remote");
    workspace.set_bentoml_tag_prefix(project + ":");
    rules::MergeSettings(settings, workspace);
    *workspace.mutable_create_time() = Now();
    *workspace.mutable_update_time() = workspace.create_time();
    workspace.set_etag(NextId());
    return workspace;
  }

  // Returns the values of the template `name`, which may be "", with `given`
  // merged into them.
  absl::StatusOr<v1::Workspace> WithTemplate(const std::string& name,
                                             const v1::Workspace& given) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (name.empty()) return given;
    const auto known = templates_.find(name);
    if (known == templates_.end()) {
      return MakeError(StatusCode::kNotFound, "TEMPLATE_NOT_FOUND",
                       "Template does not exist: " + name,
                       {{"template", name}});
    }
    RETURN_IF_ERROR(known->second.error);
    v1::Workspace values = internal::ToProto("", known->second.settings);
    rules::MergeSettings(given, values);
    return values;
  }

  absl::StatusOr<v1::Workspace> CloneLocked(
      const v1::CloneWorkspaceRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string& name = request.destination_project();
    if (!rules::CheckProject(name).ok()) {
      return base::FieldInvalid("destination_project",
                                "must be the name of a project");
    }
    for (const std::string& directory : request.directories()) {
      if (std::find(std::begin(kDirectories), std::end(kDirectories),
                    directory) == std::end(kDirectories))
        return base::FieldInvalid("directories",
                                  "no such directory: " + directory);
    }
    // Like the server, check for a repeated request before looking for the
    // source.
    if (const auto it = live_.find(name); it != live_.end()) {
      const auto made_by = request_ids_.find(it->second.uid());
      const bool repeated = made_by != request_ids_.end() &&
                            made_by->second == request.request_id();
      return repeated ? absl::StatusOr<v1::Workspace>(it->second)
                      : rules::Exists(it->second);
    }
    const auto source = live_.find(request.project());
    if (source == live_.end()) return rules::NotFound(request.project());
    // Settings that follow from the old name are derived again.
    v1::Workspace values = source->second;
    const v1::Workspace defaults = Make(request.project(), {});
    for (const char* setting : rules::kSettings) {
      const FieldDescriptor* field =
          v1::Workspace::descriptor()->FindFieldByName(setting);
      const auto* reflection = values.GetReflection();
      if (reflection->GetString(values, field) ==
          reflection->GetString(defaults, field))
        reflection->ClearField(&values, field);
    }
    const v1::Workspace clone = Make(name, values);
    artifacts_.Clone(
        source->second.uid(), clone.uid(),
        {request.directories().begin(), request.directories().end()});
    RETURN_IF_ERROR(
        artifacts_.CheckRoomForAll(clone.uid(), name, QuotaOf(clone)));
    if (!request.request_id().empty())
      request_ids_[clone.uid()] = request.request_id();
    return Store(v1::CHANGE_CREATED, clone);
  }

  // Stores `workspace` as the state of its project, and reports the change.
  v1::Workspace Store(v1::Change change, const v1::Workspace& workspace)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Report(change, workspace);
    return live_[workspace.project()] = workspace;
  }

  void Report(v1::Change change, const v1::Workspace& workspace)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::WatchWorkspacesResponse& response = changes_.emplace_back();
    response.set_change(change);
    *response.mutable_workspace() =
        change == v1::CHANGE_DELETED ? workspace : Shown(workspace);
    response.set_resume_token(TokenAt(changes_.size()));
  }

  // Reports expired leases as changes and removes them. Returns when the next
  // lease expires.
  absl::Time EndExpiredLeases() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    absl::Time next = absl::InfiniteFuture();
    for (auto it = leases_.begin(); it != leases_.end();) {
      const absl::Time expiry = absl::FromUnixNanos(
          TimeUtil::TimestampToNanoseconds(it->second.expire_time()));
      if (expiry > absl::Now()) {
        next = std::min(next, expiry);
        ++it;
        continue;
      }
      const std::string project = it->first;
      it = leases_.erase(it);
      if (const auto live = live_.find(project); live != live_.end())
        Report(v1::CHANGE_UPDATED, live->second);
    }
    return next;
  }

  // Returns the resume token of a watcher that knows the first `count` changes.
  static std::string TokenAt(size_t count) {
    return absl::StrCat("fake-", count);
  }

  static bool IsWanted(const v1::WatchWorkspacesRequest& request,
                       const std::string& project) {
    const auto& projects = request.projects();
    return projects.empty() || std::find(projects.begin(), projects.end(),
                                         project) != projects.end();
  }

  // Adds the initial events of a watch to `news`. Returns the number of changes
  // that the watch then knows.
  absl::StatusOr<size_t> BeginWatch(
      const v1::WatchWorkspacesRequest& request,
      std::vector<v1::WatchWorkspacesResponse>& news)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const std::string& project : request.projects())
      RETURN_IF_ERROR(rules::CheckProject(project));
    size_t seen = changes_.size();
    absl::string_view token = request.resume_token();
    // Without a token, the watch begins with all live workspaces.
    if (token.empty()) {
      for (const auto& [project, workspace] : live_) {
        if (!IsWanted(request, project)) continue;
        v1::WatchWorkspacesResponse& response = news.emplace_back();
        response.set_change(v1::CHANGE_CREATED);
        *response.mutable_workspace() = Shown(workspace);
        response.set_resume_token(TokenAt(seen));
      }
    } else if (!absl::ConsumePrefix(&token, "fake-") ||
               !absl::SimpleAtoi(token, &seen) || seen > changes_.size()) {
      return MakeError(StatusCode::kInvalidArgument, "TOKEN_INVALID",
                       "resume_token: damaged", {{"field", "resume_token"}});
    }
    // With a token, it begins with the changes since then.
    TakeNews(request, seen, news);
    v1::WatchWorkspacesResponse& synced = news.emplace_back();
    synced.set_change(v1::CHANGE_SYNCED);
    synced.set_resume_token(TokenAt(seen));
    return seen;
  }

  // Adds the changes after the first `seen` to `news`.
  void TakeNews(const v1::WatchWorkspacesRequest& request, size_t& seen,
                std::vector<v1::WatchWorkspacesResponse>& news)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (; seen < changes_.size(); ++seen) {
      if (IsWanted(request, changes_[seen].workspace().project()))
        news.push_back(changes_[seen]);
    }
  }

  std::vector<std::pair<std::string, const v1::Workspace*>> Ordered(
      const rules::Order& order, bool show_deleted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<std::pair<std::string, const v1::Workspace*>> ordered;
    for (const auto& [project, workspace] : live_)
      ordered.emplace_back(order.Key(workspace), &workspace);
    for (const auto& workspace : trash_) {
      if (show_deleted) ordered.emplace_back(order.Key(workspace), &workspace);
    }
    std::sort(ordered.begin(), ordered.end(),
              [&order](const auto& a, const auto& b) {
                return order.Before(a.first, b.first);
              });
    return ordered;
  }

  // Finds the deleted workspace with `uid` or, if `uid` is empty, the one that
  // was deleted last.
  Trash::iterator FindTrashed(const std::string& project,
                              const std::string& uid)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = std::find_if(
        trash_.rbegin(), trash_.rend(), [&](const v1::Workspace& workspace) {
          return workspace.project() == project &&
                 (uid.empty() || workspace.uid() == uid);
        });
    return found == trash_.rend() ? trash_.end() : std::prev(found.base());
  }

  // Finds the live workspace or, for a permanent deletion with a uid, the one
  // in the trash. Returns null if there is none.
  v1::Workspace* FindToDelete(const v1::DeleteWorkspaceRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto it = live_.find(request.project());
    if (it != live_.end() && !request.only_deleted() &&
        (request.uid().empty() || request.uid() == it->second.uid()))
      return &it->second;
    if (!request.permanent() || request.uid().empty()) return nullptr;
    const auto trashed = FindTrashed(request.project(), request.uid());
    return trashed == trash_.end() ? nullptr : &*trashed;
  }

  // Moves `workspace` into the trash, or removes it with `permanent`. Completes
  // `response`.
  void Remove(v1::Workspace workspace, bool permanent,
              v1::DeleteWorkspaceResponse& response)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto is_same = [&workspace](const v1::Workspace& other) {
      return other.uid() == workspace.uid();
    };
    // A permanent deletion may concern a workspace in the trash.
    trash_.erase(std::remove_if(trash_.begin(), trash_.end(), is_same),
                 trash_.end());
    if (const auto it = live_.find(workspace.project());
        it != live_.end() && is_same(it->second)) {
      leases_.erase(workspace.project());
      // Watches identify a deleted workspace by its name and uid.
      v1::Workspace gone;
      gone.set_project(workspace.project());
      gone.set_uid(workspace.uid());
      Report(v1::CHANGE_DELETED, gone);
      live_.erase(it);
    }
    response.set_purged(permanent);
    if (permanent) return;
    *workspace.mutable_delete_time() = Now();
    *workspace.mutable_purge_time() =
        workspace.delete_time() +
        TimeUtil::SecondsToDuration(kPurgeDelaySeconds);
    *response.mutable_workspace() = workspace;
    trash_.push_back(std::move(workspace));
  }

  std::vector<DirectoryUsage> CountFiles(const std::string& uid)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::map<std::string, FakeArtifacts::Amount> usage = artifacts_.Usage(uid);
    std::vector<DirectoryUsage> directories;
    for (const char* name : kDirectories) {
      directories.push_back({.name = name,
                             .exists = true,
                             .file_count = usage[name].file_count,
                             .size_bytes = usage[name].size_bytes});
    }
    return directories;
  }

  v1::WorkspaceStatus StatusOf(const v1::Workspace& workspace,
                               bool counts_only = false)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::WorkspaceStatus status;
    *status.mutable_workspace() = Shown(workspace);
    *status.mutable_scan_time() = rules::ToTimestamp(absl::Now());
    // SetUsage() takes precedence over counting the artifacts.
    const auto known = usage_.find(workspace.project());
    for (const auto& usage :
         known == usage_.end() ? CountFiles(workspace.uid()) : known->second) {
      auto* directory = status.add_directories();
      directory->set_name(usage.name);
      directory->set_exists(usage.exists);
      directory->set_file_count(static_cast<int32_t>(usage.file_count));
      if (!counts_only) directory->set_size_bytes(usage.size_bytes);
      if (usage.modify_time && !counts_only)
        *directory->mutable_modify_time() =
            rules::ToTimestamp(*usage.modify_time);
      status.set_file_count(status.file_count() + directory->file_count());
      status.set_size_bytes(status.size_bytes() + directory->size_bytes());
    }
    status.set_over_quota(rules::IsOverQuota(status));
    return status;
  }

  const google::protobuf::Timestamp start_time_ =
      rules::ToTimestamp(absl::Now());
  FakeArtifacts artifacts_;
  absl::Mutex mutex_;
  std::deque<absl::Status> failures_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, v1::Workspace> live_ ABSL_GUARDED_BY(mutex_);
  // Sorted by time of deletion.
  Trash trash_ ABSL_GUARDED_BY(mutex_);
  // Request ids of created workspaces, keyed by uid.
  std::map<std::string, std::string> request_ids_ ABSL_GUARDED_BY(mutex_);
  // Exported workspaces, keyed by the text of the archive. artifacts_ has their
  // files.
  std::map<std::string, v1::Workspace> archives_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::vector<DirectoryUsage>> usage_
      ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Template> templates_ ABSL_GUARDED_BY(mutex_);
  // Keyed by project. Some may have expired.
  std::map<std::string, v1::Lease> leases_ ABSL_GUARDED_BY(mutex_);
  int64_t last_fence_ ABSL_GUARDED_BY(mutex_) = 0;
  // All changes, oldest first, as watches report them.
  std::vector<v1::WatchWorkspacesResponse> changes_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

FakeWorkspaceService::FakeWorkspaceService()
    : state_(std::make_shared<State>()) {}

WorkspaceClient FakeWorkspaceService::Client() const {
  return WorkspaceClient(state_);
}

void FakeWorkspaceService::FailNext(absl::Status status) {
  state_->FailNext(std::move(status));
}

void FakeWorkspaceService::AddTemplate(Template added) {
  state_->AddTemplate(std::move(added));
}

void FakeWorkspaceService::SetUsage(std::string_view project,
                                    std::vector<DirectoryUsage> directories) {
  state_->SetUsage(project, std::move(directories));
}

}  // namespace mlops::testing
