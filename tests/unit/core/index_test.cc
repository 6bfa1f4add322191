#include "service/core/index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/support/workspaces.h"

namespace mlops::core {
namespace {

using support::NamesOf;
using support::NewWorkspace;
using support::TimeAt;
using testing::ElementsAre;
using testing::IsEmpty;

WorkspacePtr Live(absl::string_view name, int64_t seconds = 0) {
  return std::make_shared<const Workspace>(
      NewWorkspace(name, "/base", seconds));
}

WorkspacePtr Deleted(absl::string_view name, absl::string_view uid,
                     int64_t deleted_at) {
  Workspace workspace = NewWorkspace(name);
  workspace.uid = std::string(uid);
  workspace.delete_time = TimeAt(deleted_at);
  workspace.purge_time = TimeAt(deleted_at + 100);
  return std::make_shared<const Workspace>(std::move(workspace));
}

TEST(Index, FindsWhatWasPut) {
  Index index;
  index.Put(Live("a"));
  index.Put(Deleted("a", "1", 5));
  EXPECT_EQ(index.Find("a")->delete_time, std::nullopt);
  EXPECT_EQ(index.Find("a", "1")->uid, "1");
  EXPECT_EQ(index.Find("a", "2"), nullptr);
  EXPECT_EQ(index.Find("b"), nullptr);
  EXPECT_EQ(index.live_count(), 1);
  EXPECT_EQ(index.deleted_count(), 1);
}

TEST(Index, PutTakesThePlaceOfTheOldOneInEveryOrder) {
  Index index;
  index.Put(Live("a", 1));
  index.Put(Live("b", 2));
  index.Put(Live("a", 3));
  for (const OrderField field :
       {OrderField::kCreateTime, OrderField::kUpdateTime}) {
    EXPECT_THAT(NamesOf(index.Page({.order = {.field = field}}).workspaces),
                ElementsAre("b", "a"));
  }
  EXPECT_EQ(index.live_count(), 2);
}

TEST(Index, EraseTakesOutOneOrNothing) {
  Index index;
  index.Put(Live("a"));
  index.Put(Deleted("a", "1", 5));
  index.Erase("a", "2");
  index.Erase("b");
  EXPECT_EQ(index.Page({.show_deleted = true}).total_size, 2);
  index.Erase("a");
  EXPECT_EQ(index.Find("a"), nullptr);
  EXPECT_NE(index.Find("a", "1"), nullptr);
}

TEST(Index, TheLastDeletedIsByTimeNotByUid) {
  Index index;
  index.Put(Deleted("a", "1", 5));
  index.Put(Deleted("a", "2", 9));
  index.Put(Deleted("a", "3", 7));
  index.Put(Deleted("ab", "4", 99));
  EXPECT_EQ(index.FindLastDeleted("a")->uid, "2");
  EXPECT_EQ(index.FindLastDeleted("b"), nullptr);
}

TEST(Index, ADeletionIsLaterThanTheLastOneOfItsNameThoughTheClockWasSetBack) {
  Index index;
  EXPECT_EQ(index.NextDeleteTime("a", TimeAt(5)), TimeAt(5));
  index.Put(Deleted("a", "1", 80));
  EXPECT_EQ(index.NextDeleteTime("a", TimeAt(5)),
            TimeAt(80) + absl::Microseconds(1));
  EXPECT_EQ(index.NextDeleteTime("a", TimeAt(90)), TimeAt(90));
  EXPECT_EQ(index.NextDeleteTime("b", TimeAt(5)), TimeAt(5));
}

TEST(Index, PurgeableIsWhatMayGoAndNoMoreThanAsked) {
  Index index;
  index.Put(Live("z"));
  for (int i = 0; i < 5; ++i) index.Put(Deleted(absl::StrCat("a", i), "1", i));
  const auto over_by = [](absl::Time now) {
    return [now](const Workspace& workspace) {
      return *workspace.purge_time <= now;
    };
  };
  EXPECT_THAT(index.FindPurgeable(over_by(TimeAt(99)), 10), IsEmpty());
  EXPECT_THAT(NamesOf(index.FindPurgeable(over_by(TimeAt(102)), 10)),
              ElementsAre("a0", "a1", "a2"));
  EXPECT_THAT(NamesOf(index.FindPurgeable(over_by(TimeAt(102)), 2)),
              ElementsAre("a0", "a1"));
}

// The straightforward implementation: sort everything, then count.
ListPage NaivePage(
    const std::map<std::pair<std::string, std::string>, WorkspacePtr>& all,
    const ListQuery& query) {
  std::vector<WorkspacePtr> sorted;
  for (const auto& [key, workspace] : all) {
    if (query.show_deleted || !workspace->delete_time)
      sorted.push_back(workspace);
  }
  const auto key_of = [&](const WorkspacePtr& workspace) {
    return MakeOrderKey(*workspace, query.order.field);
  };
  const auto before = [&](const OrderKey& a, const OrderKey& b) {
    return query.order.descending ? b < a : a < b;
  };
  std::sort(sorted.begin(), sorted.end(), [&](const auto& a, const auto& b) {
    return before(key_of(a), key_of(b));
  });
  ListPage page{.total_size = static_cast<int64_t>(sorted.size())};
  for (const WorkspacePtr& workspace : sorted) {
    if (query.after && !before(*query.after, key_of(workspace))) continue;
    page.more = page.workspaces.size() == static_cast<size_t>(query.page_size);
    if (page.more) break;
    page.workspaces.push_back(workspace);
  }
  return page;
}

TEST(Index, PagesAreThoseOfANaiveList) {
  std::mt19937 random(20'261'124);
  const auto below = [&](int limit) {
    return static_cast<int>(random() % static_cast<unsigned>(limit));
  };
  Index index;
  std::map<std::pair<std::string, std::string>, WorkspacePtr> all;
  for (int step = 0; step < 3000; ++step) {
    const std::string name = absl::StrCat("p", below(15)),
                      uid = below(2) == 0 ? "" : absl::StrCat(1 + below(3));
    const bool erase = below(3) == 0;
    const WorkspacePtr workspace =
        uid.empty() ? Live(name, below(5)) : Deleted(name, uid, below(5));
    erase ? index.Erase(name, uid) : index.Put(workspace);
    erase ? void(all.erase({name, uid})) : void(all[{name, uid}] = workspace);
    ListQuery query = {.order = {.field = static_cast<OrderField>(below(3)),
                                 .descending = below(2) == 0},
                       .page_size = 1 + below(8),
                       .show_deleted = below(2) == 0};
    if (below(2) == 0)
      query.after = MakeOrderKey(*Live(absl::StrCat("p", below(15)), below(5)),
                                 query.order.field);
    const ListPage page = index.Page(query), naive = NaivePage(all, query);
    ASSERT_EQ(page.workspaces, naive.workspaces);
    ASSERT_EQ(page.more, naive.more);
    ASSERT_EQ(page.total_size, naive.total_size);
  }
}

}  // namespace
}  // namespace mlops::core
