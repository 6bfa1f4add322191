#ifndef MLOPS_SERVICE_CORE_INDEX_H_
#define MLOPS_SERVICE_CORE_INDEX_H_

#include <optional>

#include "absl/container/btree_set.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "service/core/catalog.h"
#include "service/core/workspace.h"

namespace mlops::core {

// Holds workspaces sorted in every order in which they can be listed. All
// catalogs that keep workspaces in memory share this class. It has at most one
// workspace per project outside the trash, and one per project and uid in the
// trash. Not thread-safe.
class Index {
 public:
  Index();

  // Adds `workspace` and replaces the one with the same name or, in the trash,
  // with the same name and uid.
  void Put(WorkspacePtr workspace);
  // Adds many workspaces, using up to `threads` threads. None of them may be in
  // the trash or already in the index.
  void AddAll(const std::vector<WorkspacePtr>& workspaces, int threads);
  // Removes a workspace. No-op if it is not in the index. A `deleted_uid`
  // other than "" means the trash.
  void Erase(absl::string_view project, absl::string_view deleted_uid = "");

  // Returns the workspace, or null if there is none.
  WorkspacePtr Find(absl::string_view project,
                    absl::string_view deleted_uid = "") const;

  // Returns the project's last deleted workspace, or null if there is none.
  WorkspacePtr FindLastDeleted(absl::string_view project) const;

  // Returns `now`, or the moment after the project's last deletion if the clock
  // has been set back since, so that FindLastDeleted() finds the workspace that
  // was deleted last.
  absl::Time NextDeleteTime(absl::string_view project, absl::Time now) const;

  // Returns up to `limit` workspaces in the trash for which `may_go` returns
  // true.
  std::vector<WorkspacePtr> FindPurgeable(
      absl::FunctionRef<bool(const Workspace&)> may_go, size_t limit) const;

  // Returns the workspace in the trash with the earliest deletion time, or null
  // if the trash is empty. Looks at every workspace in the trash.
  WorkspacePtr FindOldestDeleted() const;

  // Returns one page. The caller fills in `unreachable`.
  ListPage Page(const ListQuery& query) const;

  // Returns the number of workspaces outside the trash.
  size_t live_count() const { return live_.size(); }
  // Returns the number of workspaces in the trash.
  size_t deleted_count() const { return trash_.size(); }

 private:
  // Compares workspaces, and keys with workspaces, in one order.
  struct Less {
    using is_transparent = void;
    OrderField field;
    bool operator()(const WorkspacePtr& a, const WorkspacePtr& b) const;
    bool operator()(const WorkspacePtr& a, const OrderKey& b) const;
    bool operator()(const OrderKey& a, const WorkspacePtr& b) const;
  };
  using Ordered = absl::btree_set<WorkspacePtr, Less>;

  // The same workspaces, sorted in each order.
  struct Orders {
    Orders();
    size_t size() const { return by_project.size(); }
    void Insert(const WorkspacePtr& workspace);
    void Erase(const WorkspacePtr& workspace);
    const Ordered& In(OrderField field) const;

    Ordered by_project;
    Ordered by_create_time;
    Ordered by_update_time;
  };

  class Cursor;

  Orders live_;
  Orders trash_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_INDEX_H_
