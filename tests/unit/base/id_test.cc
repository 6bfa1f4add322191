#include "proto/cpp/base/id.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace mlops::base {
namespace {

TEST(RandomId, IsLowerCaseHexadecimal) {
  EXPECT_THAT(RandomId(), testing::MatchesRegex("[0-9a-f]+"));
}

TEST(RandomId, IsDifferentInEveryCallOfEveryThread) {
  std::mutex mutex;
  std::set<std::string> ids;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        std::string id = RandomId();
        EXPECT_EQ(id.size(), 32);
        std::lock_guard lock(mutex);
        ids.insert(std::move(id));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ids.size(), 8000);
}

TEST(HashHex, IsTheBeginningOfSha256) {
  EXPECT_EQ(HashHex("abc", 64),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(HashHex("abc", 16), "ba7816bf8f01cfea");
  EXPECT_EQ(HashHex("", 8), "e3b0c442");
}

}  // namespace
}  // namespace mlops::base
