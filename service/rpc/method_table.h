#ifndef MLOPS_SERVICE_RPC_METHOD_TABLE_H_
#define MLOPS_SERVICE_RPC_METHOD_TABLE_H_

#include "absl/strings/string_view.h"
#include "service/auth/access.h"

namespace mlops::rpc {

// The thread pool for a method's handler, unless Calls::UnaryUnless() answers
// at once. Streams choose their own pool.
enum class Lane {
  // The worker pool, for handlers that sync files or walk trees and so must not
  // block gRPC's few threads.
  kWorker,
  // A separate pool, for handlers that read whole files of any size and so must
  // not delay changes.
  kWholeFile,
};

// How a method affects a workspace.
enum class Effect { kReads, kChanges };

// What Calls needs to know about a method. Nothing has a default, so that a new
// method cannot lack a rule.
struct Method {
  constexpr Method(absl::string_view name, Lane lane, Effect effect,
                   auth::Access access)
      : name(name), lane(lane), effect(effect), access(access) {}

  absl::string_view name;
  Lane lane;
  Effect effect;
  auth::Access access;
};

inline constexpr Method kCreateWorkspace = {
    "CreateWorkspace", Lane::kWorker, Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kGetWorkspace = {"GetWorkspace", Lane::kWorker,
                                         Effect::kReads, auth::Access::kView};
inline constexpr Method kListWorkspaces = {"ListWorkspaces", Lane::kWorker,
                                           Effect::kReads, auth::Access::kView};
inline constexpr Method kUpdateWorkspace = {
    "UpdateWorkspace", Lane::kWorker, Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kDeleteWorkspace = {
    "DeleteWorkspace", Lane::kWorker, Effect::kChanges, auth::Access::kAdmin};
inline constexpr Method kEnsureWorkspace = {
    "EnsureWorkspace", Lane::kWorker, Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kUndeleteWorkspace = {
    "UndeleteWorkspace", Lane::kWorker, Effect::kChanges, auth::Access::kAdmin};
inline constexpr Method kCloneWorkspace = {
    "CloneWorkspace", Lane::kWholeFile, Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kExportWorkspace = {
    "ExportWorkspace", Lane::kWholeFile, Effect::kReads, auth::Access::kView};
inline constexpr Method kImportWorkspace = {"ImportWorkspace", Lane::kWholeFile,
                                            Effect::kChanges,
                                            auth::Access::kAdmin};
inline constexpr Method kWatchWorkspaces = {
    "WatchWorkspaces", Lane::kWorker, Effect::kReads, auth::Access::kView};
inline constexpr Method kGetWorkspaceStatus = {
    "GetWorkspaceStatus", Lane::kWorker, Effect::kReads, auth::Access::kView};
inline constexpr Method kStreamWorkspaceStatuses = {
    "StreamWorkspaceStatuses", Lane::kWorker, Effect::kReads,
    auth::Access::kView};
inline constexpr Method kListTemplates = {
    "ListTemplates", Lane::kWorker, Effect::kReads, auth::Access::kAnyone};
inline constexpr Method kAcquireLease = {"AcquireLease", Lane::kWorker,
                                         Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kReleaseLease = {"ReleaseLease", Lane::kWorker,
                                         Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kGetArtifact = {"GetArtifact", Lane::kWorker,
                                        Effect::kReads, auth::Access::kView};
inline constexpr Method kGetArtifactChecksum = {
    "GetArtifact", Lane::kWholeFile, Effect::kReads, auth::Access::kView};
inline constexpr Method kListArtifacts = {"ListArtifacts", Lane::kWorker,
                                          Effect::kReads, auth::Access::kView};
inline constexpr Method kReadArtifact = {"ReadArtifact", Lane::kWorker,
                                         Effect::kReads, auth::Access::kView};
inline constexpr Method kWriteArtifact = {
    "WriteArtifact", Lane::kWorker, Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kGetUpload = {"GetUpload", Lane::kWorker,
                                      Effect::kReads, auth::Access::kView};
inline constexpr Method kDeleteArtifact = {
    "DeleteArtifact", Lane::kWorker, Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kMoveArtifact = {"MoveArtifact", Lane::kWorker,
                                         Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kCopyArtifact = {"CopyArtifact", Lane::kWholeFile,
                                         Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kMakeDirectory = {
    "MakeDirectory", Lane::kWorker, Effect::kChanges, auth::Access::kEdit};
inline constexpr Method kGetServerInfo = {
    "GetServerInfo", Lane::kWorker, Effect::kReads, auth::Access::kAnyone};

// All methods of the service, in the order of the proto file. A test compares
// the list with the descriptor.
inline constexpr const Method* kMethods[] = {&kCreateWorkspace,
                                             &kGetWorkspace,
                                             &kListWorkspaces,
                                             &kUpdateWorkspace,
                                             &kDeleteWorkspace,
                                             &kEnsureWorkspace,
                                             &kUndeleteWorkspace,
                                             &kCloneWorkspace,
                                             &kExportWorkspace,
                                             &kImportWorkspace,
                                             &kWatchWorkspaces,
                                             &kGetWorkspaceStatus,
                                             &kStreamWorkspaceStatuses,
                                             &kListTemplates,
                                             &kAcquireLease,
                                             &kReleaseLease,
                                             &kGetArtifact,
                                             &kListArtifacts,
                                             &kReadArtifact,
                                             &kWriteArtifact,
                                             &kGetUpload,
                                             &kDeleteArtifact,
                                             &kMoveArtifact,
                                             &kCopyArtifact,
                                             &kMakeDirectory,
                                             &kGetServerInfo};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_METHOD_TABLE_H_
