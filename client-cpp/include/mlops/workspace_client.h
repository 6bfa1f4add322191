#ifndef MLOPS_WORKSPACE_CLIENT_H_
#define MLOPS_WORKSPACE_CLIENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/protobuf/struct.pb.h"
#include "mlops/artifacts.h"

// The client of `workspaced`, the one authority over the MLOps workspaces below
// a base directory. A workspace is the directory
// `<base>/<project>/{workspace.yaml, mlflow/, dvc/, monitoring/, models/,
// outputs/}`.
//
// In CMake: find_package(MlopsWorkspace CONFIG REQUIRED), then link
// MlopsWorkspace::client.
//
// EXAMPLE
//
//   #include <iostream>
//
//   #include "mlops/workspace_client.h"
//
//   int main(int argc, char** argv) {
//     const auto client = mlops::WorkspaceClient::Connect({.address = argc > 1
//     ? argv[1] : "127.0.0.1:50051"}); if (!client.ok()) return std::cerr <<
//     client.status() << "\n", 1;
//
//     const auto ensured = client->Ensure("fraud-detection",
//     {.mlflow_experiment_id = "17"}); if (!ensured.ok()) return std::cerr <<
//     ensured.status() << "\n", 1; std::cout << (ensured->created ? "made " :
//     "found ") << ensured->workspace.root_path << "\n";
//
//     const auto missing = client->Get("no-such-project");
//     if (mlops::ErrorReason(missing.status()) == "WORKSPACE_NOT_FOUND")
//     std::cout << "as expected: none such\n";
//   }
//
// ERRORS
//
// Every error that the server answers has a code, a message for people, and for
// programs a reason with metadata: see ErrorReason() and ErrorMetadata(). The
// comment of a method lists its errors as CODE/REASON. Beyond those, any call
// may return
//   INVALID_ARGUMENT/FIELD_INVALID {field, problem} if an argument is missing,
//   ill-formed, too big or not supported; a
//     project must be, as a whole,
//     `[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?`;
//   UNAVAILABLE/OVERLOADED {limit} if too many calls are waiting: retry after
//   ErrorRetryDelay(); UNAVAILABLE/SHUTTING_DOWN if the server is draining, or
//   its base directory was moved, removed or replaced;
//   FAILED_PRECONDITION/READ_ONLY if something would have to be changed and the
//   server was started with --read-only; INTERNAL/IO_ERROR {path, errno} if the
//   server's operating system fails; and without a reason, made on this side:
//   UNAVAILABLE if nobody answers at the address, DEADLINE_EXCEEDED if the
//     time-out has passed (a change may have taken place all the same),
//     RESOURCE_EXHAUSTED if an answer is larger than 64 MiB, UNIMPLEMENTED if
//     the server is older than this client, CANCELLED if CallOptions::stop said
//     so.
//
// RETRIES AND TIME-OUTS
//
// Get, List, GetStatus, GetServerInfo, Ensure, Update, GetArtifact,
// ListArtifacts and MakeDirectory may be repeated without harm, so an answer
// UNAVAILABLE is retried, in at most 4 attempts with 0.1 s to 2 s between them;
// not so Create, Delete, Undelete, StreamStatuses, and DeleteArtifact,
// MoveArtifact and CopyArtifact. What reads and writes files goes on where it
// was, see mlops/artifacts.h. A time-out covers a call with all of its
// attempts; ClientOptions and CallOptions change it. A server that is not there
// any more, without a word, is noticed within a minute.
namespace mlops {

namespace internal {
class Connection;
}  // namespace internal

// What is wrong, for programs: the name of a value of
// mlops.workspace.v1.ErrorReason, for example "WORKSPACE_EXISTS", or "" if
// `status` carries none: it is OK, or an error of the connection.
std::string ErrorReason(const absl::Status& status);

// Facts about the error, by key: `project` wherever the request named one,
// others as listed with the reason. Values are cut at 256 bytes. Empty if
// `status` carries no reason.
std::map<std::string, std::string> ErrorMetadata(const absl::Status& status);

// How long to wait at least before the call is made again, if the server said
// so.
std::optional<absl::Duration> ErrorRetryDelay(const absl::Status& status);

// Metadata from a JSON object, for example R"({"stage": "dev", "runs": 3})".
// Numbers become doubles; send integers beyond ±(2^53 - 1) as strings. Returns
// INVALID_ARGUMENT/FIELD_INVALID {field: "metadata", problem} if `json` is
// none.
absl::StatusOr<google::protobuf::Struct> MetadataFromJson(
    std::string_view json);

// The inverse, in one line, its keys in order.
std::string MetadataToJson(const google::protobuf::Struct& metadata);

// What users may set about a project.
struct Settings {
  // At most 4096 bytes, as each of the four. Absent: see the method that takes
  // it.
  std::optional<std::string> mlflow_experiment_id = std::nullopt;
  std::optional<std::string> mlflow_tracking_uri = std::nullopt;
  std::optional<std::string> dvc_remote_path = std::nullopt;
  std::optional<std::string> bentoml_tag_prefix = std::nullopt;
  // At most 64 KiB as JSON, 16 levels deep, keys at most 256 bytes.
  google::protobuf::Struct metadata = {};
};

// A workspace as it was when it was read.
struct Workspace {
  std::string project;  // Also the name of its directory.
  // Tells it from others of the same name before and after it.
  std::string uid;
  std::string root_path;  // The directory's absolute path on the server.
  std::optional<std::string> mlflow_experiment_id;
  std::optional<std::string> mlflow_tracking_uri;
  std::optional<std::string> dvc_remote_path;
  std::optional<std::string> bentoml_tag_prefix;
  google::protobuf::Struct metadata;
  // InfinitePast() where it is not known.
  absl::Time create_time = absl::InfinitePast();
  // When settings or metadata last changed through the service.
  absl::Time update_time = absl::InfinitePast();
  // Set while it is in the trash.
  std::optional<absl::Time> delete_time;
  // Set while it is in the trash: when it is removed for good.
  std::optional<absl::Time> purge_time;
  // Changes whenever workspace.yaml does.
  std::string etag;
};

// What one directory of a workspace holds, sub-directories included.
struct DirectoryUsage {
  std::string name;  // For example "mlflow".
  bool exists = false;
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  // The newest of any file or directory in it.
  std::optional<absl::Time> modify_time;
};

// What a workspace's directories hold.
struct WorkspaceStatus {
  // Only `project` is set if its record could not be read.
  Workspace workspace;
  // mlflow, dvc, monitoring, models and outputs, in this order.
  std::vector<DirectoryUsage> directories;
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  absl::Time scan_time = absl::InfinitePast();  // When they were counted.
  // Not OK if something could not be counted; the rest is exact.
  absl::Status error;
};

// What a server is and its limits.
struct ServerInfo {
  std::string version;
  // The absolute path, on the server, of the directory it is the authority
  // over.
  std::string base_path;
  absl::Time start_time = absl::InfinitePast();
  int64_t workspace_count = 0;
  int32_t max_page_size = 0;
  int32_t max_metadata_bytes = 0;
  // How long the trash keeps a workspace.
  absl::Duration purge_delay = absl::ZeroDuration();
  std::vector<std::string> features;
};

// Where the server is, and how long calls may take.
struct ClientOptions {
  // "unix:/path/of/socket" or "host:port".
  std::string address = "";
  // Instead of `address`: the base directory, where its server writes down how
  // it is reached. Not both. With neither, the address is the environment's
  // MLOPS_WORKSPACE_ADDRESS.
  std::string base_path = "";
  // Of Get, List and ListArtifacts (each page), Ensure, Update, MakeDirectory
  // and GetServerInfo.
  absl::Duration repeatable_timeout = absl::Seconds(10);
  // Of Create, Delete, Undelete, DeleteArtifact and MoveArtifact.
  absl::Duration change_timeout = absl::Seconds(30);
  // Of GetStatus, for which the server walks through the workspace's
  // directories, and of GetArtifact and CopyArtifact, for which it may have to
  // read a large file.
  absl::Duration status_timeout = absl::Seconds(60);
  // Of StreamStatuses as a whole.
  absl::Duration stream_timeout = absl::Minutes(10);
};

// How to make one call.
struct CallOptions {
  // Replaces the client's; InfiniteDuration() for none. Of a file that is read
  // or written: from opening it to its end; none unless it is given here.
  std::optional<absl::Duration> timeout = std::nullopt;
  // Ends the call with CANCELLED once a stop is requested; what it asked for
  // may take place all the same. A reader or writer ends likewise.
  std::stop_token stop = {};
};

struct CreateOptions {
  // Check everything and answer what would be made, but make nothing.
  bool validate_only = false;
  // `[A-Za-z0-9._-]{1,64}`, new for each workspace: a Create repeated with it
  // returns what the first one made.
  std::string request_id = "";
};

struct EnsureResult {
  Workspace workspace;
  bool created = false;  // Whether this call made it.
};

struct UpdateOptions {
  // Empty: set the settings that are present and merge `metadata` in, key by
  // key. The name of a setting: set it, or clear it if absent. "metadata":
  // replace all of it. "*": replace everything.
  std::vector<std::string> update_mask = {};
  // Keys of the metadata to remove; missing ones are ignored. None may be in
  // `settings.metadata` too.
  std::vector<std::string> remove_metadata = {};
  // If given, update only if it is still the current one.
  std::string etag = "";
  // Make the workspace if there is none.
  bool allow_missing = false;
  // Check everything and answer what would come out, but change nothing.
  bool validate_only = false;
};

struct DeleteOptions {
  // Required, for safety.
  bool force = false;
  // If given, delete only if it is still the current one.
  std::string etag = "";
  // Answer OK also if there is no such workspace.
  bool allow_missing = false;
  // Do not keep it in the trash. With `uid`: remove that one from the trash.
  bool permanent = false;
  // Answer what would be deleted, with its files and bytes, but delete nothing.
  bool validate_only = false;
  // Only delete the workspace if this is its uid.
  std::string uid = "";
};

struct DeleteResult {
  // What was deleted; absent if nothing was.
  std::optional<Workspace> workspace;
  // Freed, or to be freed: set with `permanent` and `validate_only`.
  int64_t file_count = 0;
  int64_t size_bytes = 0;  // Likewise.
  bool purged = false;     // Whether it is gone for good.
};

struct UndeleteOptions {
  // Which of several deleted workspaces of this name; empty: the one deleted
  // last.
  std::string uid = "";
};

struct ListOptions {
  // At most so many workspaces; 0 means 100, more than 1000 means 1000.
  int32_t page_size = 0;
  // `next_page_token` of the page before, with the same other options except
  // `page_size`. ListAll begins there.
  std::string page_token = "";
  // Which ones, such as R"(metadata.stage = "production" AND create_time >
  // 2026-01-31)"; empty: all. The language is that of
  // ListWorkspacesRequest.filter in the contract, a subset of AIP-160.
  std::string filter = "";
  // "project" (also if empty), "create_time" or "update_time", each optionally
  // followed by " desc".
  std::string order_by = "";
  // Also list workspaces in the trash; they have a `delete_time`.
  bool show_deleted = false;
};

struct WorkspacePage {
  std::vector<Workspace> workspaces;
  std::string next_page_token;  // Empty on the last page.
  // How many there are in all, without the unreachable ones.
  int64_t total_size = 0;
  // On the first page: projects that cannot be read, at most 1000.
  std::vector<std::string> unreachable;
};

struct ListSummary {
  int64_t total_size = 0;                // As the first page said.
  std::vector<std::string> unreachable;  // Likewise.
};

struct StatusOptions {
  // How old the answer may be. Zero: exact, every file written before the call
  // counts.
  absl::Duration max_staleness = absl::ZeroDuration();
  // Count files only: every size_bytes is then 0, and every modify_time absent.
  // Much less work for the server.
  bool counts_only = false;
};

struct StatusStreamOptions {
  // Which workspaces, as ListOptions::filter. With one, workspaces that cannot
  // be read are left out.
  std::string filter = "";
  // As in StatusOptions.
  absl::Duration max_staleness = absl::ZeroDuration();
  bool counts_only = false;
};

// Thread-safe. Copies are cheap and share one connection, which is made by the
// first call and made anew when it breaks. A process that forks must do so
// before it makes a client.
class WorkspaceClient {
 public:
  // Returns a client of the server that `options` name; connects to it later,
  // and never starts one. A proxy named by the environment (http_proxy) is not
  // used for Unix sockets and loopback addresses.
  //
  // Returns INVALID_ARGUMENT/FIELD_INVALID {field, problem} if the address is
  // missing or ill-formed, or given twice. Returns UNAVAILABLE, without a
  // reason, if no server has served `base_path`, or one on another host that
  // cannot be
  //   reached from here; the message names that host.
  static absl::StatusOr<WorkspaceClient> Connect(
      const ClientOptions& options = {});

  // A client of another connection, for tests: see
  // mlops/testing/fake_workspace_service.h.
  explicit WorkspaceClient(std::shared_ptr<internal::Connection> connection);

  // Makes a workspace, at once or not at all. Absent settings get defaults: a
  // SQLite tracking URI and a DVC remote in the workspace, and the tag prefix
  // `<project>:`. Not retried, unless by you with the same `request_id`.
  //
  // Returns ALREADY_EXISTS/WORKSPACE_EXISTS {uid} if the name is taken.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk is
  // full.
  absl::StatusOr<Workspace> Create(std::string_view project,
                                   const Settings& settings = {},
                                   const CreateOptions& options = {},
                                   const CallOptions& call = {}) const;

  // Reads a workspace as it is on disk now.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is none.
  // Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if its
  // workspace.yaml cannot be read. Returns FAILED_PRECONDITION/PATH_UNSUITABLE
  // {path, problem} if something else than a directory has its name.
  absl::StatusOr<Workspace> Get(std::string_view project,
                                const CallOptions& call = {}) const;

  // Returns the workspace, making it with `settings`, as Create does, if there
  // is none. An existing one comes back untouched. Of any number of racing
  // callers exactly one sees `created`.
  //
  // Returns DATA_LOSS/WORKSPACE_CORRUPT, FAILED_PRECONDITION/PATH_UNSUITABLE as
  // Get. Returns RESOURCE_EXHAUSTED/NO_SPACE as Create.
  absl::StatusOr<EnsureResult> Ensure(std::string_view project,
                                      const Settings& settings = {},
                                      const CallOptions& call = {}) const;

  // Changes settings and metadata; see UpdateOptions::update_mask for what
  // becomes of those that are absent. Returns the workspace as it is then. To
  // change what was read and lose nobody else's change, give its `etag`.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is none and `allow_missing`
  // is not set. Returns ABORTED/ETAG_MISMATCH {etag, current_etag} if `etag` is
  // not the current one: read again, then retry. Returns ABORTED/WORKSPACE_BUSY
  // {operation} if another change to it is in progress: retry. Returns
  // DATA_LOSS/WORKSPACE_CORRUPT, FAILED_PRECONDITION/PATH_UNSUITABLE as Get.
  // Returns RESOURCE_EXHAUSTED/NO_SPACE as Create.
  absl::StatusOr<Workspace> Update(std::string_view project,
                                   const Settings& settings,
                                   const UpdateOptions& options = {},
                                   const CallOptions& call = {}) const;

  // Moves a workspace, with all its files, into the trash. Its name is free at
  // once; Undelete brings it back until `purge_time`. Not retried.
  //
  // Returns FAILED_PRECONDITION/FORCE_REQUIRED {path} if `force` is not set.
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is none and `allow_missing`
  // is not set. Returns ABORTED/ETAG_MISMATCH, ABORTED/WORKSPACE_BUSY as
  // Update. Returns FAILED_PRECONDITION/PATH_UNSUITABLE as Get.
  absl::StatusOr<DeleteResult> Delete(std::string_view project,
                                      const DeleteOptions& options,
                                      const CallOptions& call = {}) const;

  // Brings a deleted workspace back. Not retried.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if the trash has none.
  // Returns ALREADY_EXISTS/WORKSPACE_EXISTS {uid} if the name is taken again.
  // Returns DATA_LOSS/WORKSPACE_CORRUPT {file, line, problem} if it was brought
  // back, but cannot be read.
  absl::StatusOr<Workspace> Undelete(std::string_view project,
                                     const UndeleteOptions& options = {},
                                     const CallOptions& call = {}) const;

  // Returns one page of workspaces.
  //
  // Returns INVALID_ARGUMENT/TOKEN_INVALID {field} if `page_token` is damaged
  // or was made for other options. Returns INVALID_ARGUMENT/FILTER_INVALID
  // {field, position, problem} if `filter` or `order_by` cannot be understood.
  absl::StatusOr<WorkspacePage> List(const ListOptions& options = {},
                                     const CallOptions& call = {}) const;

  // Calls `visit` with one workspace after the other, reading page by page,
  // until there are no more or `visit` returns false. One that exists during
  // the whole walk and keeps its place in the order comes exactly once. Holds
  // one page in memory; time-outs and retries are those of a page. `visit` may
  // use this client.
  //
  // Returns the errors of List; `visit` has then seen the pages before.
  absl::StatusOr<ListSummary> ListAll(
      const std::function<bool(const Workspace&)>& visit,
      const ListOptions& options = {}, const CallOptions& call = {}) const;

  // Counts the files and bytes of a workspace.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND, DATA_LOSS/WORKSPACE_CORRUPT,
  // FAILED_PRECONDITION/PATH_UNSUITABLE as Get.
  absl::StatusOr<WorkspaceStatus> GetStatus(std::string_view project,
                                            const StatusOptions& options = {},
                                            const CallOptions& call = {}) const;

  // Calls `visit` with the status of one workspace after the other, each as
  // soon as it is counted, in no order, until there are no more or `visit`
  // returns false, which ends the call with OK. A workspace that cannot be read
  // comes with an `error` and does not end the stream. Not retried.
  //
  // Returns INVALID_ARGUMENT/FILTER_INVALID {field, position, problem} if
  // `filter` cannot be understood.
  absl::Status StreamStatuses(
      const std::function<bool(const WorkspaceStatus&)>& visit,
      const StatusStreamOptions& options = {},
      const CallOptions& call = {}) const;

  // Tells what a file or directory is. As wherever something is read, symbolic
  // links are followed if they are relative and stay in the workspace's
  // directories, and others refused; where something is written or moved, all
  // are refused.
  //
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND, DATA_LOSS/WORKSPACE_CORRUPT as Get,
  // as all that follow. Returns INVALID_ARGUMENT/PATH_INVALID {path, problem}
  // if `path` is not one that an artifact may have, as all that
  //   follow.
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is nothing of that
  // name. Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if it is,
  // or leads through, a symbolic link that is not
  //   followed, or is a device, FIFO or socket; with `checksum`, also if it is
  //   a directory.
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if it was changed
  // while its checksum was computed.
  absl::StatusOr<Artifact> GetArtifact(std::string_view project,
                                       std::string_view path,
                                       const GetArtifactOptions& options = {},
                                       const CallOptions& call = {}) const;

  // Calls `visit` with one artifact after the other, in the order of their
  // names' bytes, a directory right before what is in it, until there are no
  // more or `visit` returns false. What exists, under the same name, during the
  // whole walk comes exactly once. Symbolic links, devices, FIFOs and sockets
  // are left out. Holds one page in memory; time-outs and retries are those of
  // a page. `visit` may use this client.
  //
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is no such directory.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if it is none,
  // or leads through a symbolic link that is
  //   not followed.
  absl::Status ListArtifacts(std::string_view project,
                             const std::function<bool(const Artifact&)>& visit,
                             const ListArtifactsOptions& options = {},
                             const CallOptions& call = {}) const;

  // Deletes a file, or a directory with all that is in it, and tells what was
  // in it. Not retried.
  //
  // Returns INVALID_ARGUMENT/PATH_INVALID also if it is one of the five
  // directories. Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is
  // nothing of that name and `allow_missing` is not set. Returns
  // FAILED_PRECONDITION/FORCE_REQUIRED {path} if it is a directory that is not
  // empty and `force` is not set. Returns FAILED_PRECONDITION/PATH_UNSUITABLE
  // {path, problem} if it leads through a symbolic link or a file. Returns
  // ABORTED/ETAG_MISMATCH {path, etag, current_etag} if `etag` is given and is
  // not the current one.
  absl::StatusOr<DeletedArtifacts> DeleteArtifact(
      std::string_view project, std::string_view path,
      const DeleteArtifactOptions& options = {},
      const CallOptions& call = {}) const;

  // Gives a file, or a directory with all that is in it, another name in the
  // same workspace, at once, and returns it. A file in its place is replaced,
  // and so is an empty directory by a directory. Missing directories on the way
  // are made. Not retried.
  //
  // Returns INVALID_ARGUMENT/PATH_INVALID also if either is one of the five
  // directories, or if a directory would be
  //   moved into itself.
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is nothing at `path`.
  // Returns ALREADY_EXISTS/ARTIFACT_EXISTS {path} if `create_only` is set and
  // the name is taken, or if a directory that
  //   is not empty has it.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if a path is,
  // or leads through, what is neither file nor
  //   directory, if a file would replace a directory or the other way round, or
  //   if they lie on different file systems.
  // Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if `etag` is given
  // and is not the current one at `path`. Returns RESOURCE_EXHAUSTED/NO_SPACE
  // as Create.
  absl::StatusOr<Artifact> MoveArtifact(std::string_view project,
                                        std::string_view path,
                                        std::string_view destination,
                                        const PlaceOptions& options = {},
                                        const CallOptions& call = {}) const;

  // Copies a file within a workspace and returns the copy, which is visible
  // once it is whole. Not retried.
  //
  // Returns errors as MoveArtifact, and ABORTED/ETAG_MISMATCH also if the file
  // was changed while it was copied. `path` must be a regular file.
  absl::StatusOr<Artifact> CopyArtifact(std::string_view project,
                                        std::string_view path,
                                        std::string_view destination,
                                        const PlaceOptions& options = {},
                                        const CallOptions& call = {}) const;

  // Makes a directory, with those on the way to it. One that exists is answered
  // likewise.
  //
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if it is, or
  // leads through, what is no directory. Returns RESOURCE_EXHAUSTED/NO_SPACE as
  // Create.
  absl::StatusOr<Artifact> MakeDirectory(std::string_view project,
                                         std::string_view path,
                                         const CallOptions& call = {}) const;

  // Opens a file, or a part of it, for reading.
  //
  // Returns NOT_FOUND/ARTIFACT_NOT_FOUND {path} if there is no such file.
  // Returns FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if it is no
  // regular file, or leads through a link. Returns
  // OUT_OF_RANGE/OFFSET_OUT_OF_RANGE {path, offset, size_bytes} if `offset` is
  // beyond the end. Returns ABORTED/ETAG_MISMATCH {path, etag, current_etag} if
  // `etag` is given and is not the current one. Returns UNAVAILABLE if the
  // server could not be reached, or was too busy, in 8 attempts.
  absl::StatusOr<ArtifactReader> OpenForRead(
      std::string_view project, std::string_view path,
      const ReadOptions& options = {}, const CallOptions& call = {}) const;

  // Opens a file for writing; see ArtifactWriter for what becomes of it, and
  // its errors. Asks the server only where `upload_id` is given, whose upload
  // may have been begun, or finished, before.
  absl::StatusOr<ArtifactWriter> OpenForWrite(
      std::string_view project, std::string_view path,
      const WriteOptions& options = {}, const CallOptions& call = {}) const;

  // Writes the local file `source` to `path`. Where the connection breaks it
  // goes on, reading the file again as far as needed. Holds a chunk of 1 MiB.
  // On the server's own host the system copies the file (mlops/artifacts.h).
  //
  // Returns errors as ArtifactWriter, and without a reason:
  // Returns NOT_FOUND, PERMISSION_DENIED or INTERNAL if `source` cannot be
  // read, INVALID_ARGUMENT if it is no file. Returns ABORTED if it became
  // shorter meanwhile. Returns CANCELLED if `progress` returned false.
  absl::StatusOr<TransferredArtifact> Upload(
      std::string_view project, const std::string& source,
      std::string_view path, const UploadOptions& options = {},
      const CallOptions& call = {}) const;

  // Reads `path` into the local file `destination`, in place of the one that
  // had the name, if any, whose permissions it keeps. It is there once it is
  // whole and synced to the disk; until then a hidden file stands beside it,
  // which is removed if anything fails.
  //
  // Returns errors as OpenForRead and ArtifactReader, and without a reason:
  // Returns DATA_LOSS if `checksum` is set and the content has another, ABORTED
  // if the file was replaced before they could
  //   be compared.
  // Returns NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED or INTERNAL if
  // `destination` cannot be written. Returns CANCELLED if `progress` returned
  // false.
  absl::StatusOr<TransferredArtifact> Download(
      std::string_view project, std::string_view path,
      const std::string& destination, const DownloadOptions& options = {},
      const CallOptions& call = {}) const;

  // Tells what the server is and its limits. Returns the errors that any call
  // may return.
  absl::StatusOr<ServerInfo> GetServerInfo(const CallOptions& call = {}) const;

 private:
  std::shared_ptr<internal::Connection> connection_;
};

}  // namespace mlops

#endif  // MLOPS_WORKSPACE_CLIENT_H_
