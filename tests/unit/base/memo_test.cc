#include "service/base/memo.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace mlops::base {
namespace {

TEST(Memo, IsMadeOnce) {
  const Memo memo;
  EXPECT_EQ(memo.Get([] { return std::string("first"); }), "first");
  EXPECT_EQ(memo.Get([] { return std::string("second"); }), "first");
}

TEST(Memo, CopiesBeginWithoutIt) {
  Memo memo, assigned;
  memo.Get([] { return std::string("first"); });
  assigned.Get([] { return std::string("other"); });
  const Memo copy = memo;
  assigned = memo;
  EXPECT_EQ(copy.Get([] { return std::string("second"); }), "second");
  EXPECT_EQ(assigned.Get([] { return std::string("third"); }), "third");
}

TEST(Memo, AllWhoAskAtOnceGetTheSame) {
  const Memo memo;
  std::vector<const std::string*> got(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < got.size(); ++i) {
    threads.emplace_back(
        [&, i] { got[i] = &memo.Get([i] { return std::to_string(i); }); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string* text : got) EXPECT_EQ(text, got[0]);
}

}  // namespace
}  // namespace mlops::base
