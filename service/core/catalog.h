#ifndef MLOPS_SERVICE_CORE_CATALOG_H_
#define MLOPS_SERVICE_CORE_CATALOG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/core/usage.h"
#include "service/core/workspace.h"

namespace mlops::core {

enum class OrderField { kProject, kCreateTime, kUpdateTime };

struct Order {
  OrderField field = OrderField::kProject;
  bool descending = false;
};

// A workspace's position in a list. Keys compare by time, then by name, then by
// uid, because workspaces in the trash may share a name.
struct OrderKey {
  // The epoch if the list is ordered by project.
  absl::Time time = absl::UnixEpoch();
  std::string project;
  // "" unless the workspace is in the trash.
  std::string deleted_uid;

  auto Tie() const { return std::tie(time, project, deleted_uid); }
  bool operator==(const OrderKey& other) const { return Tie() == other.Tie(); }
  bool operator<(const OrderKey& other) const { return Tie() < other.Tie(); }
};

// Returns the position of `workspace` in a list ordered by `field`.
OrderKey MakeOrderKey(const Workspace& workspace, OrderField field);

struct ListQuery {
  Order order;
  int page_size = 100;  // At least 1.
  // The page begins after this key, whether or not a workspace with it exists.
  std::optional<OrderKey> after;
  bool show_deleted = false;
};

struct ListPage {
  std::vector<WorkspacePtr> workspaces;
  // Whether more workspaces follow this page.
  bool more = false;
  // Number of workspaces on all pages.
  int64_t total_size = 0;
  // Projects whose records cannot be read: sorted, at most kMaxUnreachable.
  std::vector<std::string> unreachable;
};
inline constexpr size_t kMaxUnreachable = 1000;

// Creates a workspace. An existing directory of that name without a record
// becomes the workspace and keeps its files. Returns
// ALREADY_EXISTS/WORKSPACE_EXISTS if there is a workspace of that name.
//
// With `staged`, that directory below `.staging`, whose content must be durable
// (artifacts::StagedTree), becomes the workspace: the catalog adds the record
// and renames it into place. If the commit fails, the directory stays where it
// is. It is never merged with an existing directory; returns
// FAILED_PRECONDITION/PATH_UNSUITABLE if one without a record has the name.
struct CreateChange {
  Workspace workspace;
  std::string staged = {};
};
// Replaces the record of a workspace. Returns ABORTED/ETAG_MISMATCH if its etag
// is not `expected_etag`, or if someone edits the record by hand at the same
// moment.
struct ReplaceChange {
  Workspace workspace;
  std::string expected_etag;
};
// Moves a workspace to the trash, even if its record is corrupt. Returns
// ABORTED/ETAG_MISMATCH if `expected_etag` is not "" and differs from the
// workspace's etag. If the trash already has a workspace of that uid (after a
// backup was restored, for example), this one gets a new uid in the trash, so
// that both can be undeleted.
//
// Returns RESOURCE_EXHAUSTED/NO_SPACE if the disk has no room for the workspace
// in the trash. `permanent` promises that a PurgeChange follows. The catalog
// then sets the workspace aside elsewhere instead, which needs no space. If the
// server crashes before the PurgeChange, the next start removes it.
struct DeleteChange {
  ProjectName project;
  std::string expected_etag;
  bool permanent = false;
};
// Moves a workspace back from the trash: the one with `uid`, or the one that
// was deleted last if `uid` is "". Returns ALREADY_EXISTS/WORKSPACE_EXISTS if
// the name is taken, and DATA_LOSS/WORKSPACE_CORRUPT if the record is missing,
// so that the workspace stays in the trash, or cannot be read.
struct UndeleteChange {
  ProjectName project;
  std::string uid;
};
// Removes a workspace in the trash permanently. Returns CANCELLED once
// `cancelled` returns true. The workspace then can no longer be restored, and
// the catalog removes the rest in the background.
struct PurgeChange {
  ProjectName project;
  std::string uid;
  Cancelled cancelled = NeverCancelled;
};
using Change = std::variant<CreateChange, ReplaceChange, DeleteChange,
                            UndeleteChange, PurgeChange>;

struct CommitResult {
  // The stored or deleted workspace. For a deleted workspace with a corrupt
  // record, only project, uid, root_path and the times are set.
  WorkspacePtr workspace;
  // Number of files that a purge removed, and bytes that it freed.
  int64_t file_count = 0;
  int64_t size_bytes = 0;
};

// Stores the records, and reports each change of a visible workspace to its
// ChangeLog, if it has one. All methods are thread-safe, but two commits to the
// same project must not run at once. Authority's lock stripes prevent that.
class Catalog {
 public:
  virtual ~Catalog() = default;

  // Returns the workspace in its current state. Returns
  // NOT_FOUND/WORKSPACE_NOT_FOUND if it does not exist; a directory without a
  // record is not a workspace. Returns DATA_LOSS/WORKSPACE_CORRUPT if its
  // record cannot be read. Returns FAILED_PRECONDITION/PATH_UNSUITABLE if an
  // entry that is not a directory has its name.
  virtual absl::StatusOr<WorkspacePtr> Get(const ProjectName& project) = 0;

  // Returns one page. A workspace that exists while a caller walks all pages,
  // and whose key does not change meanwhile, is on exactly one of them.
  virtual absl::StatusOr<ListPage> List(const ListQuery& query) = 0;

  // Makes the change durable, then visible, as a whole or not at all. Ignores
  // `workspace.etag` of the change. Returns NOT_FOUND/WORKSPACE_NOT_FOUND if
  // the workspace to change does not exist, RESOURCE_EXHAUSTED/NO_SPACE or
  // INTERNAL/IO_ERROR if the operating system fails, and the errors in the
  // comment on the change's struct.
  virtual absl::StatusOr<CommitResult> Commit(const Change& change) = 0;

  // Reports a workspace to watchers as changed although its record has not
  // changed. Other classes use it for their state about the workspace, such as
  // leases. No-op if there is no such workspace.
  virtual void Announce(const ProjectName& project) = 0;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_CATALOG_H_
