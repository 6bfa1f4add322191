#include "service/core/index.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "service/base/thread_pool.h"
#include "service/core/iso_time.h"

namespace mlops::core {
namespace {

// Like OrderKey, but compares without copying strings.
using KeyView = std::tuple<absl::Time, absl::string_view, absl::string_view>;

absl::Time OrderTime(const Workspace& workspace, OrderField field) {
  switch (field) {
    case OrderField::kCreateTime:
      return workspace.create_time;
    case OrderField::kUpdateTime:
      return workspace.update_time;
    case OrderField::kProject:
      break;
  }
  return absl::UnixEpoch();
}

KeyView View(const Workspace& workspace, OrderField field) {
  return {OrderTime(workspace, field), workspace.project.str(),
          workspace.delete_time ? absl::string_view(workspace.uid)
                                : absl::string_view()};
}

KeyView View(const OrderKey& key) {
  return {key.time, key.project, key.deleted_uid};
}

}  // namespace

OrderKey MakeOrderKey(const Workspace& workspace, OrderField field) {
  const auto [time, project, deleted_uid] = View(workspace, field);
  return {.time = time,
          .project = std::string(project),
          .deleted_uid = std::string(deleted_uid)};
}

bool Index::Less::operator()(const WorkspacePtr& a,
                             const WorkspacePtr& b) const {
  return View(*a, field) < View(*b, field);
}
bool Index::Less::operator()(const WorkspacePtr& a, const OrderKey& b) const {
  return View(*a, field) < View(b);
}
bool Index::Less::operator()(const OrderKey& a, const WorkspacePtr& b) const {
  return View(a) < View(*b, field);
}

Index::Orders::Orders()
    : by_project(Less{OrderField::kProject}),
      by_create_time(Less{OrderField::kCreateTime}),
      by_update_time(Less{OrderField::kUpdateTime}) {}

void Index::Orders::Insert(const WorkspacePtr& workspace) {
  by_project.insert(workspace);
  by_create_time.insert(workspace);
  by_update_time.insert(workspace);
}

void Index::Orders::Erase(const WorkspacePtr& workspace) {
  by_project.erase(workspace);
  by_create_time.erase(workspace);
  by_update_time.erase(workspace);
}

const Index::Ordered& Index::Orders::In(OrderField field) const {
  switch (field) {
    case OrderField::kCreateTime:
      return by_create_time;
    case OrderField::kUpdateTime:
      return by_update_time;
    case OrderField::kProject:
      break;
  }
  return by_project;
}

// Walks one order in one direction.
class Index::Cursor {
 public:
  Cursor(const Ordered& set, bool descending,
         const std::optional<OrderKey>& after)
      : set_(set), descending_(descending), next_(Start(after)) {}

  bool done() const {
    return next_ == (descending_ ? set_.begin() : set_.end());
  }
  const WorkspacePtr& value() const {
    return descending_ ? *std::prev(next_) : *next_;
  }
  void Advance() { descending_ ? --next_ : ++next_; }

 private:
  // An ascending cursor points to the next workspace, and a descending one just
  // past it.
  Ordered::const_iterator Start(const std::optional<OrderKey>& after) const {
    if (!after) return descending_ ? set_.end() : set_.begin();
    return descending_ ? set_.lower_bound(*after) : set_.upper_bound(*after);
  }

  const Ordered& set_;
  const bool descending_;
  Ordered::const_iterator next_;
};

Index::Index() = default;

void Index::Put(WorkspacePtr workspace) {
  // Remove the old version first: insert() would keep it if its key is equal,
  // and keep both if a time has changed.
  Erase(workspace->project.str(), workspace->delete_time ? workspace->uid : "");
  (workspace->delete_time ? trash_ : live_).Insert(workspace);
}

void Index::AddAll(const std::vector<WorkspacePtr>& workspaces, int threads) {
  // Each task fills one set alone, so the threads need no lock.
  const std::array<Ordered*, 3> orders = {
      &live_.by_project, &live_.by_create_time, &live_.by_update_time};
  base::ParallelFor(orders.size(), threads, 1, [&](size_t i) {
    // The input is usually in the order of the set, so hint at the end.
    for (const WorkspacePtr& workspace : workspaces)
      orders[i]->insert(orders[i]->end(), workspace);
  });
}

void Index::Erase(absl::string_view project, absl::string_view deleted_uid) {
  if (WorkspacePtr old = Find(project, deleted_uid))
    (deleted_uid.empty() ? live_ : trash_).Erase(old);
}

WorkspacePtr Index::Find(absl::string_view project,
                         absl::string_view deleted_uid) const {
  const Ordered& set = (deleted_uid.empty() ? live_ : trash_).by_project;
  const auto it = set.find(OrderKey{.project = std::string(project),
                                    .deleted_uid = std::string(deleted_uid)});
  return it == set.end() ? nullptr : *it;
}

WorkspacePtr Index::FindLastDeleted(absl::string_view project) const {
  WorkspacePtr last;
  const Ordered& set = trash_.by_project;
  // The set sorts a project's workspaces by uid, not by time of deletion,
  // so examine all of them.
  for (auto it = set.lower_bound(OrderKey{.project = std::string(project)});
       it != set.end() && (*it)->project.str() == project; ++it) {
    if (last == nullptr || *(*it)->delete_time > *last->delete_time) last = *it;
  }
  return last;
}

absl::Time Index::NextDeleteTime(absl::string_view project,
                                 absl::Time now) const {
  const WorkspacePtr last = FindLastDeleted(project);
  return last == nullptr ? now
                         : ClampTime(std::max(now, *last->delete_time +
                                                       absl::Microseconds(1)));
}

std::vector<WorkspacePtr> Index::FindPurgeable(
    absl::FunctionRef<bool(const Workspace&)> may_go, size_t limit) const {
  std::vector<WorkspacePtr> found;
  for (const WorkspacePtr& workspace : trash_.by_project) {
    if (found.size() == limit) break;
    if (may_go(*workspace)) found.push_back(workspace);
  }
  return found;
}

WorkspacePtr Index::FindOldestDeleted() const {
  WorkspacePtr oldest;
  for (const WorkspacePtr& workspace : trash_.by_project) {
    if (oldest == nullptr || *workspace->delete_time < *oldest->delete_time)
      oldest = workspace;
  }
  return oldest;
}

ListPage Index::Page(const ListQuery& query) const {
  const OrderField field = query.order.field;
  const bool descending = query.order.descending;
  Cursor live(live_.In(field), descending, query.after);
  Cursor trash(trash_.In(field), descending, query.after);
  // Merge two sorted walks: live and deleted workspaces form one list.
  const Less less{field};
  const auto trash_is_next = [&] {
    if (!query.show_deleted || trash.done()) return false;
    if (live.done()) return true;
    return descending ? less(live.value(), trash.value())
                      : less(trash.value(), live.value());
  };

  ListPage page{.total_size = static_cast<int64_t>(
                    live_.size() + (query.show_deleted ? trash_.size() : 0))};
  while (!live.done() || (query.show_deleted && !trash.done())) {
    if (page.workspaces.size() == static_cast<size_t>(query.page_size)) {
      page.more = true;
      break;
    }
    Cursor& next = trash_is_next() ? trash : live;
    page.workspaces.push_back(next.value());
    next.Advance();
  }
  return page;
}

}  // namespace mlops::core
