#ifndef MLOPS_WORKSPACE_CLIENT_H_
#define MLOPS_WORKSPACE_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/protobuf/struct.pb.h"
#include "mlops/artifacts.h"
#include "mlops/options.h"

// C++ client of `workspaced`, the single authority over the MLOps workspaces
// below a base directory. A workspace is the directory
// `<base>/<project>/{workspace.yaml, mlflow/, dvc/, monitoring/, models/,
// outputs/}`.
//
// In CMake, call find_package(MlopsWorkspace CONFIG REQUIRED) and link
// MlopsWorkspace::client.
//
// EXAMPLE
//
//   #include <iostream>
//
//   #include "mlops/workspace_client.h"
//
//   int main(int argc, char** argv) {
//     const auto client = mlops::WorkspaceClient::Connect(
//         {.address = argc > 1 ? argv[1] : "127.0.0.1:50051"});
//     if (!client.ok()) return std::cerr << client.status() << "\n", 1;
//
//     const auto ensured = client->Ensure("fraud-detection",
//                                         {.mlflow_experiment_id = "17"});
//     if (!ensured.ok()) return std::cerr << ensured.status() << "\n", 1;
//     std::cout << (ensured->created ? "made " : "found ")
//               << ensured->workspace.root_path << "\n";
//
//     const auto missing = client->Get("no-such-project");
//     if (mlops::ErrorReason(missing.status()) == "WORKSPACE_NOT_FOUND")
//       std::cout << "as expected: none such\n";
//   }
//
// ERRORS
//
// Every error that the server returns has a code, a message for people, and a
// reason with metadata for programs: see ErrorReason() and ErrorMetadata() in
// mlops/options.h.
// The comment of a method lists its errors as CODE/REASON {metadata keys}.
//
// In addition, any call may return one of these errors of the server:
//   INVALID_ARGUMENT/FIELD_INVALID {field, problem} if an argument is missing,
//     malformed, too large or not supported. A project name must match
//     `[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?`.
//   UNAVAILABLE/OVERLOADED {limit} if too many calls are waiting: retry after
//     ErrorRetryDelay().
//   UNAVAILABLE/SHUTTING_DOWN if the server is draining or stands by for
//     another one, or if its base directory was moved, removed or replaced.
//   FAILED_PRECONDITION/READ_ONLY if the call would change something and the
//     server runs with --read-only.
//   FAILED_PRECONDITION/LEASE_HELD {holder, expire_time} if the call would
//     change a workspace on which somebody holds a lease, and
//     CallOptions::fence is 0.
//   FAILED_PRECONDITION/LEASE_LOST {fence, current_fence} if CallOptions::fence
//     is not that of the current lease: nothing was changed.
//   INTERNAL/IO_ERROR {path, errno} if a system call of the server fails.
//   UNAUTHENTICATED/CREDENTIALS_INVALID if the server needs a token or a
//     certificate, or does not accept the one in ClientOptions.
//   PERMISSION_DENIED/PERMISSION_MISSING if the server's policy does not allow
//     the caller to make this call.
// and one of these errors of the client, which have no reason:
//   UNAVAILABLE if no server answers at the address.
//   DEADLINE_EXCEEDED if the timeout expired. The server may still apply the
//     change.
//   RESOURCE_EXHAUSTED if the response is larger than 64 MiB.
//   UNIMPLEMENTED if the server is older than this client.
//   CANCELLED if a stop was requested through CallOptions::stop.
//
// RETRIES AND TIMEOUTS
//
// The client retries idempotent unary calls that fail with UNAVAILABLE, in at
// most 4 attempts with 0.1 s to 2 s between them. These are Get, List,
// GetStatus, GetServerInfo, Ensure, Update, AcquireLease, ReleaseLease,
// ListTemplates, GetArtifact, ListArtifacts and MakeDirectory. It never retries
// Create, Delete, Undelete, CloneWorkspace, ExportWorkspace, ImportWorkspace,
// StreamStatuses, DeleteArtifact, MoveArtifact and CopyArtifact. Watch, and
// reads and writes of files, resume where they stopped; see mlops/artifacts.h.
//
// With several addresses, the client calls the server whose health check
// reports that it serves, and waits up to 10 s for one. When that server stops,
// retryable calls move to the next one.
//
// A timeout covers a call with all its attempts. ClientOptions and CallOptions,
// in mlops/options.h, set it. The client detects within a minute that a server
// has disappeared without closing the connection.
namespace mlops {

namespace internal {
class Connection;
class InheritedLease;
}  // namespace internal

// Parses a JSON object into metadata, for example
// R"({"stage": "dev", "runs": 3})". Numbers become doubles; send integers
// beyond ±(2^53 - 1) as strings.
//
// Returns INVALID_ARGUMENT/FIELD_INVALID {field: "metadata", problem} if `json`
//   is not a JSON object.
absl::StatusOr<google::protobuf::Struct> MetadataFromJson(
    std::string_view json);

// Formats metadata as JSON on one line, with sorted keys.
std::string MetadataToJson(const google::protobuf::Struct& metadata);

// The settings, metadata and quotas of a project that callers can set.
struct Settings {
  // Each of the four settings has at most 4096 bytes. The method that takes the
  // settings defines the meaning of an absent one.
  std::optional<std::string> mlflow_experiment_id = std::nullopt;
  std::optional<std::string> mlflow_tracking_uri = std::nullopt;
  std::optional<std::string> dvc_remote_path = std::nullopt;
  std::optional<std::string> bentoml_tag_prefix = std::nullopt;
  // At most 64 KiB as JSON and 16 levels deep, with keys of at most 256 bytes.
  google::protobuf::Struct metadata = {};
  // Quotas for the bytes and the regular files in the five directories; at
  // least 0. The server refuses changes that would exceed them, with NO_SPACE.
  std::optional<int64_t> max_size_bytes = std::nullopt;
  std::optional<int32_t> max_file_count = std::nullopt;
};

// The exclusive right of one holder to change a workspace through the service.
struct LeaseInfo {
  std::string holder;
  // Changes must carry it in CallOptions::fence. It is larger than the fence of
  // every earlier lease on the project.
  int64_t fence = 0;
  absl::Time acquire_time = absl::InfinitePast();
  // When the lease ends unless it is renewed, according to the server's clock.
  absl::Time expire_time = absl::InfinitePast();
};

// A workspace, as of the time when the server read it.
struct Workspace {
  std::string project;  // Also the name of the workspace's directory.
  // Distinguishes this workspace from earlier and later ones with the same
  // name.
  std::string uid;
  std::string root_path;  // The directory's absolute path on the server.
  std::optional<std::string> mlflow_experiment_id;
  std::optional<std::string> mlflow_tracking_uri;
  std::optional<std::string> dvc_remote_path;
  std::optional<std::string> bentoml_tag_prefix;
  google::protobuf::Struct metadata;
  // The quotas; absent means no limit.
  std::optional<int64_t> max_size_bytes;
  std::optional<int32_t> max_file_count;
  // InfinitePast() if unknown.
  absl::Time create_time = absl::InfinitePast();
  // When the service last changed the settings or metadata.
  absl::Time update_time = absl::InfinitePast();
  // Set while the workspace is in the trash.
  std::optional<absl::Time> delete_time;
  // When the server removes the workspace permanently. Set while the workspace
  // is in the trash.
  std::optional<absl::Time> purge_time;
  // Changes whenever workspace.yaml changes.
  std::string etag;
  // Set while somebody holds a lease.
  std::optional<LeaseInfo> lease;
};

// The contents of one directory of a workspace, including its subdirectories.
struct DirectoryUsage {
  std::string name;  // For example "mlflow".
  bool exists = false;
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  // The latest modification time of a file or directory in it.
  std::optional<absl::Time> modify_time;
};

// The contents of a workspace's directories.
struct WorkspaceStatus {
  // If the server cannot read the record, only `project` is set.
  Workspace workspace;
  // mlflow, dvc, monitoring, models and outputs, in this order.
  std::vector<DirectoryUsage> directories;
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  // When the server counted the files.
  absl::Time scan_time = absl::InfinitePast();
  // Not OK if the server could not count something. All other counts are exact.
  absl::Status error;
  // Whether the workspace uses more than its quotas allow.
  bool over_quota = false;
};

// The version, base directory and limits of a server.
struct ServerInfo {
  std::string version;
  // Absolute path, on the server, of the base directory that it serves.
  std::string base_path;
  absl::Time start_time = absl::InfinitePast();
  int64_t workspace_count = 0;
  int32_t max_page_size = 0;
  int32_t max_metadata_bytes = 0;
  // How long a deleted workspace stays in the trash.
  absl::Duration purge_delay = absl::ZeroDuration();
  std::vector<std::string> features;
  absl::Duration max_lease_ttl = absl::ZeroDuration();
};

struct CreateOptions {
  // Validate the request and return the workspace that it would create, without
  // creating it.
  bool validate_only = false;
  // Makes Create idempotent: a repeated call with the same id returns the
  // workspace that the first one created. Matches `[A-Za-z0-9._-]{1,64}`, and
  // must be unique for each workspace.
  std::string request_id = "";
  // The template for the workspace. `settings` takes precedence over its
  // values. Empty means the server's default template, if it has one.
  std::string template_name = "";
};

// The initial content of new workspaces: the directory `.templates/<name>` in a
// server's base.
struct Template {
  std::string name;
  std::string description;
  // Settings, metadata and quotas. `${project}`, `${date}` and `${root}` are
  // not replaced yet.
  Settings settings;
  // Paths of directories and files, relative to the workspace; at most 1000.
  std::vector<std::string> paths;
  // Not OK if the template cannot be used; only `name` is then set.
  absl::Status error;
};

struct CloneProgress {
  int64_t file_count = 0;
  int64_t size_bytes = 0;
};

struct CloneOptions {
  // Which of the five directories to copy with their content; the others are
  // created empty. Empty means all five.
  std::vector<std::string> directories = {};
  // Makes CloneWorkspace idempotent, like CreateOptions::request_id.
  std::string request_id = "";
  // Called a few times a second with the progress so far. If it returns false,
  // the server abandons the copy.
  std::function<bool(const CloneProgress&)> progress = nullptr;
};

struct EnsureOptions {
  // Like CreateOptions::template_name. Used only if the call creates the
  // workspace, but the template must exist in any case.
  std::string template_name = "";
};

struct EnsureResult {
  Workspace workspace;
  bool created = false;  // Whether this call created the workspace.
};

struct UpdateOptions {
  // Fields to change. Empty: set the settings and quotas that are present, and
  // merge `metadata` key by key. The name of a setting or quota: set it, or
  // clear it if it is absent. "metadata": replace all metadata. "*": replace
  // everything.
  std::vector<std::string> update_mask = {};
  // Metadata keys to remove. Missing keys are ignored. A key must not also
  // occur in `settings.metadata`.
  std::vector<std::string> remove_metadata = {};
  // If set, update only if this is the workspace's current etag.
  std::string etag = "";
  // Create the workspace if it does not exist.
  bool allow_missing = false;
  // Validate the request and return the resulting workspace, without changing
  // anything.
  bool validate_only = false;
};

struct DeleteOptions {
  // Must be true. Guards against accidental deletion.
  bool force = false;
  // If set, delete only if this is the workspace's current etag.
  std::string etag = "";
  // Return OK if there is no such workspace.
  bool allow_missing = false;
  // Bypass the trash and remove the workspace permanently. With `uid`, the
  // workspace may already be in the trash.
  bool permanent = false;
  // Delete the workspace only if it is in the trash, so that a workspace that
  // somebody has restored stays. Requires `permanent` and `uid`.
  bool only_deleted = false;
  // Return the workspace that the call would delete, with its file count and
  // size, without deleting it.
  bool validate_only = false;
  // If set, delete the workspace only if this is its uid.
  std::string uid = "";
};

struct DeleteResult {
  // The deleted workspace; absent if nothing was deleted.
  std::optional<Workspace> workspace;
  // Files and bytes that the call freed, or would free with `validate_only`.
  // Set only with `permanent` or `validate_only`.
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  bool purged = false;  // Whether the workspace was removed permanently.
};

struct UndeleteOptions {
  // Selects one of several deleted workspaces with the same name. Empty means
  // the one that was deleted last.
  std::string uid = "";
};

struct AcquireLeaseOptions {
  // How long the lease lasts unless it is renewed; 1 s to 24 h.
  absl::Duration ttl = absl::Seconds(60);
};

struct ReleaseLeaseOptions {
  // End the lease no matter who holds it. Requires the permission to delete the
  // workspace.
  bool force = false;
};

struct ListOptions {
  // Maximum number of workspaces in a page. 0 means 100; values above 1000 mean
  // 1000.
  int32_t page_size = 0;
  // `next_page_token` of the previous page. All other options except
  // `page_size` must be the same as for that page. ListAll starts at this page.
  std::string page_token = "";
  // Selects workspaces, for example R"(metadata.stage = "production" AND
  // create_time > 2026-01-31)". Empty means all workspaces.
  // ListWorkspacesRequest.filter in the contract documents the language, a
  // subset of AIP-160.
  std::string filter = "";
  // "project" (the default), "create_time" or "update_time", each optionally
  // followed by " desc".
  std::string order_by = "";
  // Include workspaces in the trash, which have a `delete_time`.
  bool show_deleted = false;
};

struct WorkspacePage {
  std::vector<Workspace> workspaces;
  std::string next_page_token;  // Empty on the last page.
  // Set on the first page: a watch with this token reports every later change.
  std::string resume_token;
  // Number of workspaces on all pages, excluding unreachable ones.
  int64_t total_size = 0;
  // Set on the first page: projects that the server cannot read, at most 1000.
  std::vector<std::string> unreachable;
};

struct ListSummary {
  int64_t total_size = 0;                // From the first page.
  std::vector<std::string> unreachable;  // From the first page.
};

enum class WorkspaceChange {
  // The workspace was created, restored or added by hand, or existed when the
  // watch began.
  kCreated,
  // Its record or its lease changed, or it began or ceased to exceed its
  // quotas.
  kUpdated,
  // It was deleted, moved or removed.
  kDeleted,
  // The server has reported everything that changed before.
  kSynced,
};

struct WorkspaceEvent {
  WorkspaceChange change = WorkspaceChange::kSynced;
  // The current state. If the record cannot be read, only `project` is set. For
  // a deleted workspace, `uid` and the times are also set, if they are known.
  // Empty for kSynced.
  Workspace workspace;
  // The position after this event, for WatchOptions.
  std::string resume_token;
  // Whether the workspace used more than its quotas when the server last
  // counted its files.
  bool over_quota = false;
};

struct WatchOptions {
  // The projects to watch, at most 1000; they need not exist yet. Empty: all.
  std::vector<std::string> projects = {};
  // `resume_token` of an earlier event or of a WorkspacePage: report only
  // changes after it. Empty: begin with the existing workspaces.
  std::string resume_token = "";
};

struct StatusOptions {
  // Maximum age of the result. With zero, the result is exact: it includes
  // every file that was written before the call.
  absl::Duration max_staleness = absl::ZeroDuration();
  // Count only files, which is much cheaper for the server. Every size_bytes is
  // then 0 and every modify_time absent.
  bool counts_only = false;
  // If set, count the workspace with this uid, which is in the trash.
  std::string uid = "";
};

struct StatusStreamOptions {
  // Selects workspaces, like ListOptions::filter. A filter excludes workspaces
  // that the server cannot read.
  std::string filter = "";
  // See StatusOptions.
  absl::Duration max_staleness = absl::ZeroDuration();
  bool counts_only = false;
  // Also count workspaces in the trash, which have a `delete_time`.
  bool show_deleted = false;
};

struct ExportOptions {
  // The directories whose content is exported, for example "models". Empty
  // means all five.
  std::vector<std::string> directories = {};
  // Called with the number of bytes received so far. If it returns false, the
  // call ends with CANCELLED.
  std::function<bool(int64_t size_bytes)> progress = nullptr;
};

struct ImportOptions {
  // Like CreateOptions::request_id: a repeated ImportWorkspace with the same id
  // returns the workspace that the first one created.
  std::string request_id = "";
  // Called with the number of bytes that the server has staged. If it returns
  // false, the call ends with CANCELLED.
  std::function<bool(int64_t size_bytes)> progress = nullptr;
};

// Client of one server. Thread-safe. Copies are cheap and share one connection.
// The first call opens the connection, and a later call reopens it after a
// failure. A process that forks must fork before it creates a client.
class WorkspaceClient {
 public:
  // Returns a client of the server that `options` identify. Never starts a
  // server; the first call opens the connection. The client ignores a proxy
  // from the environment (http_proxy) for Unix sockets and loopback addresses.
  //
  // Returns INVALID_ARGUMENT/FIELD_INVALID {field, problem} if the address is
  //   missing or malformed, if both `address` and `base_path` are set, if the
  //   token or a credentials file cannot be used, or if the token would be sent
  //   unencrypted to another host.
  // Returns UNAVAILABLE, without a reason, if no server runs for `base_path`,
  //   or if its server runs on another host and has no address that this host
  //   can reach; the message names that host. Also returned if the path of a
  //   Unix socket contains a comma, and its directory cannot be opened or the
  //   comma is in the socket's own name.
  static absl::StatusOr<WorkspaceClient> Connect(
      const ClientOptions& options = {});

  // Returns a client that uses `connection`. For tests: see
  // mlops/testing/fake_workspace_service.h.
  explicit WorkspaceClient(std::shared_ptr<internal::Connection> connection);

  // Creates a workspace atomically. Absent settings get defaults: a SQLite
  // tracking URI and a DVC remote inside the workspace, and the tag prefix
  // `<project>:`. Not retried; callers can retry with the same `request_id`.
  //
  // Returns ALREADY_EXISTS/WORKSPACE_EXISTS {uid} if the name is taken.
  // Returns NOT_FOUND/TEMPLATE_NOT_FOUND {template} if there is no such
  //   template.
  // Returns FAILED_PRECONDITION/TEMPLATE_INVALID {template, file, line,
  //   problem} if the template cannot be used.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk is
  //   full.
  absl::StatusOr<Workspace> Create(std::string_view project,
                                   const Settings& settings = {},
                                   const CreateOptions& options = {},
                                   const CallOptions& call = {}) const;

  // Reads a workspace as it is on disk now.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is no such workspace.
  // Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if the server
  //   cannot read its workspace.yaml.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if the name
  //   belongs to something other than a directory.
  absl::StatusOr<Workspace> Get(std::string_view project,
                                const CallOptions& call = {}) const;

  // Returns the workspace. Creates it with `settings`, like Create, if it does
  // not exist; never changes an existing workspace. When callers race, exactly
  // one of them gets `created`.
  //
  //   client.Ensure("fraud", {}, {.template_name = "tabular"});
  //
  // Returns DATA_LOSS/WORKSPACE_CORRUPT and FAILED_PRECONDITION/PATH_UNSUITABLE
  //   as Get.
  // Returns NOT_FOUND/TEMPLATE_NOT_FOUND, FAILED_PRECONDITION/TEMPLATE_INVALID
  //   and RESOURCE_EXHAUSTED/NO_SPACE as Create.
  absl::StatusOr<EnsureResult> Ensure(std::string_view project,
                                      const Settings& settings = {},
                                      const EnsureOptions& options = {},
                                      const CallOptions& call = {}) const;

  // Changes settings and metadata, and returns the changed workspace.
  // UpdateOptions::update_mask defines what absent settings mean. To avoid
  // overwriting concurrent changes, pass the `etag` of the workspace that you
  // read.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is no such workspace and
  //   `allow_missing` is false.
  // Returns ABORTED/ETAG_MISMATCH {etag, current_etag} if `etag` is not the
  //   current one: read the workspace again, then retry.
  // Returns ABORTED/WORKSPACE_BUSY {operation} if another change to the
  //   workspace is in progress: retry.
  // Returns DATA_LOSS/WORKSPACE_CORRUPT and FAILED_PRECONDITION/PATH_UNSUITABLE
  //   as Get.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE as Create.
  absl::StatusOr<Workspace> Update(std::string_view project,
                                   const Settings& settings,
                                   const UpdateOptions& options = {},
                                   const CallOptions& call = {}) const;

  // Moves a workspace with all its files into the trash. Its name is free at
  // once. Undelete restores the workspace until `purge_time`. Not retried.
  //
  // Returns FAILED_PRECONDITION/FORCE_REQUIRED {path} if `force` is false.
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is no such workspace and
  //   `allow_missing` is false.
  // Returns ABORTED/ETAG_MISMATCH and ABORTED/WORKSPACE_BUSY as Update.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE as Get.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk is
  //   too full for the trash; then `permanent` succeeds.
  absl::StatusOr<DeleteResult> Delete(std::string_view project,
                                      const DeleteOptions& options,
                                      const CallOptions& call = {}) const;

  // Restores a deleted workspace from the trash. Not retried.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if the trash has no such workspace.
  // Returns ALREADY_EXISTS/WORKSPACE_EXISTS {uid} if a new workspace has the
  //   name.
  // Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if the server
  //   restored the workspace but cannot read its workspace.yaml, or left it in
  //   the trash because its workspace.yaml is missing there.
  absl::StatusOr<Workspace> Undelete(std::string_view project,
                                     const UndeleteOptions& options = {},
                                     const CallOptions& call = {}) const;

  // Copies a workspace, with the files in its five directories, under the name
  // `destination`, and returns the copy. The copy becomes visible atomically.
  // The workspace may be in use meanwhile: each file is copied in one of its
  // states, and a SQLite database with every transaction committed before.
  // Settings that Create derived from the name or the location are derived
  // again. Not retried. Has no timeout unless `call` sets one.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND and DATA_LOSS/WORKSPACE_CORRUPT as
  //   Get.
  // Returns ALREADY_EXISTS/WORKSPACE_EXISTS {uid} if the name `destination` is
  //   taken.
  // Returns ABORTED/WORKSPACE_BUSY {operation} if another program writes a file
  //   continuously.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if the
  //   workspace contains a device, FIFO or socket.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk is
  //   full, or {project, quota, limit, used, wanted} if the files exceed the
  //   quota, which the copy inherits.
  // Returns CANCELLED if `progress` returned false.
  absl::StatusOr<Workspace> CloneWorkspace(std::string_view project,
                                           std::string_view destination,
                                           const CloneOptions& options = {},
                                           const CallOptions& call = {}) const;

  // Returns all templates, ordered by name. Templates that cannot be used have
  // an `error`.
  absl::StatusOr<std::vector<Template>> ListTemplates(
      const CallOptions& call = {}) const;

  // Acquires the lease on a workspace, or renews the lease of the same holder,
  // which keeps its fence. While a lease is live, every change to the workspace
  // and its files must carry its fence. Lease, in mlops/lease.h, renews and
  // releases a lease automatically.
  //
  // `holder` identifies the holder in 1 to 128 printable ASCII characters. Two
  // callers with the same holder share the lease.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND and DATA_LOSS/WORKSPACE_CORRUPT as
  //   Get.
  // Returns FAILED_PRECONDITION/LEASE_HELD {holder, expire_time} if another
  //   holder has the lease; ErrorRetryDelay() is the time until it expires.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE as Create.
  absl::StatusOr<LeaseInfo> AcquireLease(
      std::string_view project, std::string_view holder,
      const AcquireLeaseOptions& options = {},
      const CallOptions& call = {}) const;

  // Ends a lease. A no-op if there is none. `holder` may be "" with `force`.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND as Get.
  // Returns FAILED_PRECONDITION/LEASE_HELD as AcquireLease, unless `force`.
  absl::Status ReleaseLease(std::string_view project, std::string_view holder,
                            const ReleaseLeaseOptions& options = {},
                            const CallOptions& call = {}) const;

  // Returns one page of workspaces.
  //
  // Returns INVALID_ARGUMENT/TOKEN_INVALID {field} if `page_token` is damaged
  //   or belongs to a list with other options.
  // Returns INVALID_ARGUMENT/FILTER_INVALID {field, position, problem} if
  //   `filter` or `order_by` is malformed.
  absl::StatusOr<WorkspacePage> List(const ListOptions& options = {},
                                     const CallOptions& call = {}) const;

  // Calls `visit` for each workspace, fetching page by page, until there are no
  // more or `visit` returns false. Visits a workspace exactly once if it exists
  // during the whole list and keeps its position in the order. The client holds
  // one page in memory; timeouts and retries apply to each page. `visit` may
  // use this client.
  //
  // Returns the errors of List, after `visit` has seen the previous pages.
  absl::StatusOr<ListSummary> ListAll(
      const std::function<bool(const Workspace&)>& visit,
      const ListOptions& options = {}, const CallOptions& call = {}) const;

  // Calls `visit` with every change to a workspace, whoever made it, until
  // `visit` returns false, which ends the call with OK. First come all existing
  // workspaces, as kCreated, then one kSynced, then changes, and kSynced every
  // few seconds while nothing changes. Changes to files in the workspaces are
  // not reported. Several quick changes to a workspace may arrive as one.
  //
  // Resumes automatically after a lost connection or a restart of the server,
  // indefinitely once the server has answered. If the server no longer knows
  // what changed meanwhile, lists again and reports the differences. There is
  // no timeout by default; CallOptions::stop ends the call with CANCELLED.
  //
  //   client.Watch([](const mlops::WorkspaceEvent& event) {
  //     std::cout << event.workspace.project << "\n";
  //     return true;
  //   });
  //
  // Returns INVALID_ARGUMENT/TOKEN_INVALID if `resume_token` is damaged.
  // Returns OUT_OF_RANGE/RESUME_TOKEN_EXPIRED if the watch began with a
  //   `resume_token` and the server no longer knows what changed after it:
  //   watch again without one.
  // Returns UNAVAILABLE/OVERLOADED {limit} if too many watchers are connected.
  absl::Status Watch(const std::function<bool(const WorkspaceEvent&)>& visit,
                     const WatchOptions& options = {},
                     const CallOptions& call = {}) const;

  // Counts the files and bytes of a workspace.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND, DATA_LOSS/WORKSPACE_CORRUPT and
  //   FAILED_PRECONDITION/PATH_UNSUITABLE as Get.
  absl::StatusOr<WorkspaceStatus> GetStatus(std::string_view project,
                                            const StatusOptions& options = {},
                                            const CallOptions& call = {}) const;

  // Calls `visit` with the status of each workspace as soon as the server has
  // counted it, in no particular order, until there are no more. If `visit`
  // returns false, the call ends with OK. A workspace that the server cannot
  // read has its `error` set and does not end the stream. Not retried.
  //
  // Returns INVALID_ARGUMENT/FILTER_INVALID {field, position, problem} if
  //   `filter` is malformed.
  absl::Status StreamStatuses(
      const std::function<bool(const WorkspaceStatus&)>& visit,
      const StatusStreamOptions& options = {},
      const CallOptions& call = {}) const;

  // Writes a workspace to the local file `destination` as a tar archive: its
  // settings, metadata and files, with the SHA-256 of each file. The same
  // content yields the same bytes. Replaces an existing file atomically, like
  // Download. Not retried.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND and DATA_LOSS/WORKSPACE_CORRUPT as
  //   Get.
  // Returns ABORTED/WORKSPACE_BUSY {operation} if a file changed during each of
  //   several attempts to read it: retry.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if the
  //   workspace has an entry that an archive cannot hold.
  // Returns NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED or INTERNAL,
  //   without a reason, if the client cannot write `destination`.
  absl::Status ExportWorkspace(std::string_view project,
                               const std::string& destination,
                               const ExportOptions& options = {},
                               const CallOptions& call = {}) const;
  // Calls `write` with the bytes of the archive, piece by piece. Ends with the
  // first error that `write` returns. An archive that an error has cut off
  // cannot be imported.
  absl::Status ExportWorkspace(
      std::string_view project,
      const std::function<absl::Status(std::string_view data)>& write,
      const ExportOptions& options = {}, const CallOptions& call = {}) const;

  // Creates a workspace from the local file `source`, which ExportWorkspace
  // wrote. The workspace becomes visible atomically. Settings that follow from
  // its name or location get the defaults of the new workspace. Not retried;
  // callers can retry with the same `request_id`.
  //
  // Returns INVALID_ARGUMENT/ARCHIVE_INVALID {entry, problem} if the archive is
  //   damaged, incomplete or not from ExportWorkspace.
  // Returns ALREADY_EXISTS/WORKSPACE_EXISTS {uid} if the name is taken.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE as Get.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE if the disk {path, available_bytes} or
  //   the archive's quota {quota, limit, used, wanted} has no room.
  // Returns NOT_FOUND, PERMISSION_DENIED or INTERNAL, without a reason, if the
  //   client cannot read `source`.
  absl::StatusOr<Workspace> ImportWorkspace(const std::string& source,
                                            std::string_view project,
                                            const ImportOptions& options = {},
                                            const CallOptions& call = {}) const;
  // Calls `read` for the bytes of the archive, on another thread, until it
  // returns "". A piece must have at most 4 MiB. Ends with the first error that
  // `read` returns.
  absl::StatusOr<Workspace> ImportWorkspace(
      const std::function<absl::StatusOr<std::string>()>& read,
      std::string_view project, const ImportOptions& options = {},
      const CallOptions& call = {}) const;

  // Describes a file or directory. Like all reads, follows symbolic links that
  // are relative and stay inside the workspace's directories, and refuses
  // others. Writes and moves refuse all symbolic links.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND and DATA_LOSS/WORKSPACE_CORRUPT as
  //   Get. All methods below return these errors, too.
  // Returns INVALID_ARGUMENT/PATH_INVALID {path, problem} if `path` is not a
  //   valid artifact path. All methods below return this error, too.
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if nothing has that name.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if `path` is or
  //   leads through a symbolic link that is not followed, or if it is a device,
  //   FIFO or socket; with `checksum`, also if it is a directory.
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if the file
  //   changed while the server computed its checksum.
  absl::StatusOr<Artifact> GetArtifact(std::string_view project,
                                       std::string_view path,
                                       const GetArtifactOptions& options = {},
                                       const CallOptions& call = {}) const;

  // Calls `visit` for each artifact in bytewise order of the names, a directory
  // right before its contents, until there are no more or `visit` returns
  // false. Visits an artifact exactly once if it exists under the same name
  // during the whole list. Omits symbolic links, devices, FIFOs and sockets.
  // The client holds one page in memory; timeouts and retries apply to each
  // page. `visit` may use this client.
  //
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is no such directory.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if the path is
  //   not a directory or leads through a symbolic link that is not followed.
  absl::Status ListArtifacts(std::string_view project,
                             const std::function<bool(const Artifact&)>& visit,
                             const ListArtifactsOptions& options = {},
                             const CallOptions& call = {}) const;

  // Deletes a file, or a directory with all its contents, and returns the
  // deleted number of files and bytes. Not retried.
  //
  // Returns INVALID_ARGUMENT/PATH_INVALID {path, problem} also if `path` is one
  //   of the five directories.
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if nothing has that name and
  //   `allow_missing` is false.
  // Returns FAILED_PRECONDITION/FORCE_REQUIRED {path} if `path` is a directory
  //   that is not empty and `force` is false.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if `path` leads
  //   through a symbolic link or a file.
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if `etag` is set
  //   and is not the current one.
  absl::StatusOr<DeletedArtifacts> DeleteArtifact(
      std::string_view project, std::string_view path,
      const DeleteArtifactOptions& options = {},
      const CallOptions& call = {}) const;

  // Renames a file, or a directory with all its contents, within the workspace,
  // atomically, and returns it. A file replaces a file at `destination`; a
  // directory replaces an empty directory. Creates missing parent directories.
  // Not retried.
  //
  // Returns INVALID_ARGUMENT/PATH_INVALID {path, problem} also if a path is one
  //   of the five directories, or if `destination` is inside the directory
  //   `path`.
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is nothing at `path`.
  // Returns ALREADY_EXISTS/ARTIFACT_EXISTS {path} if `create_only` is true and
  //   the name is taken, or if a directory that is not empty has it.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if a path is or
  //   leads through something that is neither a file nor a directory, if a file
  //   would replace a directory or the reverse, or if the paths are on
  //   different file systems.
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if `etag` is set
  //   and is not the current one of `path`.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE as Create.
  absl::StatusOr<Artifact> MoveArtifact(std::string_view project,
                                        std::string_view path,
                                        std::string_view destination,
                                        const PlaceOptions& options = {},
                                        const CallOptions& call = {}) const;

  // Copies a regular file within a workspace and returns the copy, which
  // becomes visible once it is complete. Not retried.
  //
  // Returns the errors of MoveArtifact, and ABORTED/ETAG_MISMATCH also if the
  //   file changed while the server copied it.
  absl::StatusOr<Artifact> CopyArtifact(std::string_view project,
                                        std::string_view path,
                                        std::string_view destination,
                                        const PlaceOptions& options = {},
                                        const CallOptions& call = {}) const;

  // Creates a directory and its missing parents, and returns it. A no-op if the
  // directory exists.
  //
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if `path` is or
  //   leads through something that is not a directory.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE as Create.
  absl::StatusOr<Artifact> MakeDirectory(std::string_view project,
                                         std::string_view path,
                                         const CallOptions& call = {}) const;

  // Opens a file, or a part of it, for reading.
  //
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is no such file.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if `path` is
  //   not a regular file, or leads through a symbolic link that is not
  //   followed.
  // Returns OUT_OF_RANGE/OFFSET_OUT_OF_RANGE {path, offset, size_bytes} if
  //   `offset` is beyond the end of the file.
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if `etag` is set
  //   and is not the current one.
  // Returns UNAVAILABLE if the server was unreachable or overloaded in 8
  //   attempts.
  absl::StatusOr<ArtifactReader> OpenForRead(
      std::string_view project, std::string_view path,
      const ReadOptions& options = {}, const CallOptions& call = {}) const;

  // Opens a file for writing. See ArtifactWriter for its semantics and errors.
  // Calls the server only if `upload_id` is set, because an earlier writer may
  // have started or finished that upload.
  absl::StatusOr<ArtifactWriter> OpenForWrite(
      std::string_view project, std::string_view path,
      const WriteOptions& options = {}, const CallOptions& call = {}) const;

  // Writes the local file `source` to `path`. Resumes after a broken
  // connection, and rereads the local file as far as needed. Holds one chunk of
  // 1 MiB in memory. On the server's own host, the kernel copies the file; see
  // mlops/artifacts.h.
  //
  // Returns the errors of ArtifactWriter, and these without a reason:
  // Returns NOT_FOUND, PERMISSION_DENIED or INTERNAL if the client cannot read
  //   `source`, INVALID_ARGUMENT if `source` is not a regular file.
  // Returns ABORTED if `source` became shorter during the upload.
  // Returns CANCELLED if `progress` returned false.
  absl::StatusOr<TransferredArtifact> Upload(
      std::string_view project, const std::string& source,
      std::string_view path, const UploadOptions& options = {},
      const CallOptions& call = {}) const;

  // Reads `path` into the local file `destination`. Replaces an existing file
  // atomically and keeps its permissions: the client writes a hidden file in
  // the same directory, syncs it and renames it. Removes the hidden file if
  // anything fails.
  //
  // Returns the errors of OpenForRead and ArtifactReader, and these without a
  //   reason:
  // Returns DATA_LOSS if `checksum` is true and the content has another
  //   checksum, ABORTED if the file was replaced before the client could
  //   compare them.
  // Returns NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED or INTERNAL if the
  //   client cannot write `destination`.
  // Returns CANCELLED if `progress` returned false.
  absl::StatusOr<TransferredArtifact> Download(
      std::string_view project, std::string_view path,
      const std::string& destination, const DownloadOptions& options = {},
      const CallOptions& call = {}) const;

  // Returns the server's version, base directory and limits. Returns only the
  // errors that any call may return.
  absl::StatusOr<ServerInfo> GetServerInfo(const CallOptions& call = {}) const;

 private:
  std::shared_ptr<internal::Connection> connection_;
  std::shared_ptr<internal::InheritedLease> inherited_lease_;
};

}  // namespace mlops

#endif  // MLOPS_WORKSPACE_CLIENT_H_
