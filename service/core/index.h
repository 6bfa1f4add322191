#ifndef MLOPS_SERVICE_CORE_INDEX_H_
#define MLOPS_SERVICE_CORE_INDEX_H_

#include <optional>

#include "absl/container/btree_set.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "service/core/catalog.h"
#include "service/core/workspace.h"

namespace mlops::core {

// Workspaces in every order in which they can be listed, shared by all catalogs
// that keep them in memory. At most one of each project that is not in the
// trash, and one of each project and uid in the trash. Not thread-safe.
class Index {
 public:
  Index();

  // Adds `workspace`, in place of the one with the same name (in the trash:
  // name and uid).
  void Put(WorkspacePtr workspace);
  // Adds many at once, none of them in the trash or in the index yet, from up
  // to `threads` threads.
  void AddAll(const std::vector<WorkspacePtr>& workspaces, int threads);
  // Removes it; nothing happens if it is not there.
  void Erase(absl::string_view project, absl::string_view deleted_uid = "");

  // Null if there is none.
  WorkspacePtr Find(absl::string_view project,
                    absl::string_view deleted_uid = "") const;

  // The one of that project that was deleted last; null if the trash has none.
  WorkspacePtr FindLastDeleted(absl::string_view project) const;

  // `now`, or a moment after the last deletion of that project, should the
  // clock have been set back since: what was deleted last must be what
  // FindLastDeleted() finds.
  absl::Time NextDeleteTime(absl::string_view project, absl::Time now) const;

  // What is in the trash and `may_go`, at most `limit`.
  std::vector<WorkspacePtr> FindPurgeable(
      absl::FunctionRef<bool(const Workspace&)> may_go, size_t limit) const;

  // A page of workspaces; `unreachable` is left to the caller.
  ListPage Page(const ListQuery& query) const;

  size_t live_count() const { return live_.size(); }

 private:
  // Compares workspaces, and keys with workspaces, by one order.
  struct Less {
    using is_transparent = void;
    OrderField field;
    bool operator()(const WorkspacePtr& a, const WorkspacePtr& b) const;
    bool operator()(const WorkspacePtr& a, const OrderKey& b) const;
    bool operator()(const OrderKey& a, const WorkspacePtr& b) const;
  };
  using Ordered = absl::btree_set<WorkspacePtr, Less>;

  // The same workspaces in each order.
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
