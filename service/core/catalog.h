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

// A workspace's place in a list. Times of the order first, then the name, then,
// for workspaces in the trash, which may share a name, the uid.
struct OrderKey {
  absl::Time time = absl::UnixEpoch();  // The epoch when ordered by project.
  std::string project;
  std::string deleted_uid;  // "" for one that is not in the trash.

  auto Tie() const { return std::tie(time, project, deleted_uid); }
  bool operator==(const OrderKey& other) const { return Tie() == other.Tie(); }
  bool operator<(const OrderKey& other) const { return Tie() < other.Tie(); }
};

OrderKey MakeOrderKey(const Workspace& workspace, OrderField field);

struct ListQuery {
  Order order;
  int page_size = 100;  // At least 1.
  // Begin behind this key, whether or not there is such a workspace.
  std::optional<OrderKey> after;
  bool show_deleted = false;
};

struct ListPage {
  std::vector<WorkspacePtr> workspaces;
  bool more = false;
  int64_t total_size = 0;
  std::vector<std::string> unreachable;  // Sorted; at most kMaxUnreachable.
};
inline constexpr size_t kMaxUnreachable = 1000;

// Makes a workspace. WORKSPACE_EXISTS if there is one of that name. A directory
// of that name without a record becomes the workspace, with all its files.
struct CreateChange {
  Workspace workspace;
};
// Replaces the record of a workspace that has `expected_etag`; ETAG_MISMATCH
// otherwise, also if somebody edits the record by hand at the same moment.
struct ReplaceChange {
  Workspace workspace;
  std::string expected_etag;
};
// Moves a workspace into the trash, also one whose record is corrupt. If
// `expected_etag` is not "", ETAG_MISMATCH if the workspace has another. Where
// one with the same uid lies in the trash already (a backup was restored, say),
// this one gets a new uid there, so that both can be brought back.
struct DeleteChange {
  ProjectName project;
  std::string expected_etag;
};
// Brings a workspace back from the trash; without `uid` the one deleted last.
// WORKSPACE_EXISTS if the name is taken.
struct UndeleteChange {
  ProjectName project;
  std::string uid;
};
// Removes a workspace in the trash for good. CANCELLED if nobody waits any
// more: what is left of it then is removed later, and cannot be restored.
struct PurgeChange {
  ProjectName project;
  std::string uid;
  Cancelled cancelled = NeverCancelled;
};
using Change = std::variant<CreateChange, ReplaceChange, DeleteChange,
                            UndeleteChange, PurgeChange>;

struct CommitResult {
  // What is stored now, or what was deleted; of a deleted one with a corrupt
  // record only project, uid, root_path and the times are known.
  WorkspacePtr workspace;
  int64_t file_count = 0;  // What a purge freed.
  int64_t size_bytes = 0;
};

// Where records live. All methods are thread-safe. Two commits to one project
// must not run at once: Authority sees to that with its lock stripes.
class Catalog {
 public:
  virtual ~Catalog() = default;

  // The workspace as it is now.
  // Returns NOT_FOUND/WORKSPACE_NOT_FOUND if there is none (a directory without
  // a record is none). Returns DATA_LOSS/WORKSPACE_CORRUPT if its record cannot
  // be read. Returns FAILED_PRECONDITION/PATH_UNSUITABLE if something else than
  // a directory has its name.
  virtual absl::StatusOr<WorkspacePtr> Get(const ProjectName& project) = 0;

  // One page. A workspace that exists during a whole walk and keeps its key is
  // on exactly one page.
  virtual absl::StatusOr<ListPage> List(const ListQuery& query) = 0;

  // Makes the change durable, then visible, whole or not at all.
  // `workspace.etag` of what is given is ignored. Returns
  // NOT_FOUND/WORKSPACE_NOT_FOUND if what is to be changed does not exist,
  // RESOURCE_EXHAUSTED/NO_SPACE and INTERNAL/IO_ERROR as the operating system
  // fails, and what the change's own comment says.
  virtual absl::StatusOr<CommitResult> Commit(const Change& change) = 0;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_CATALOG_H_
