// Tests Lease with the fake service, whose time is real.
#include "mlops/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stop_token>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "mlops/testing/fake_workspace_service.h"

namespace mlops {
namespace {

using ::testing::HasSubstr;

class LeaseTest : public ::testing::Test {
 protected:
  LeaseTest() { EXPECT_TRUE(client.Create("fraud").ok()); }

  std::string Update(const CallOptions& call = {}) {
    return ErrorReason(
        client.Update("fraud", {.dvc_remote_path = "x"}, {}, call).status());
  }

  testing::FakeWorkspaceService service;
  const WorkspaceClient client = service.Client();
};

TEST_F(LeaseTest, ItsOptionsMayChangeTheWorkspaceAndOthersMayNot) {
  auto lease = Lease::Acquire(client, "fraud");
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ(lease->project(), "fraud");
  EXPECT_THAT(lease->holder(), HasSubstr("@"));
  EXPECT_EQ(client.Get("fraud")->lease->holder, lease->holder());
  EXPECT_EQ(client.Get("fraud")->lease->fence, lease->fence());
  EXPECT_EQ(Update(), "LEASE_HELD");
  EXPECT_EQ(Update(lease->Options()), "");
  const CallOptions mine = lease->Options();
  EXPECT_TRUE(client.MakeDirectory("fraud", "models/a", mine).ok());
  auto writer = client.OpenForWrite("fraud", "models/a/x", {}, mine);
  ASSERT_TRUE(writer.ok() && writer->Write("x").ok() && writer->Finish().ok());
  EXPECT_TRUE(
      client.CopyArtifact("fraud", "models/a/x", "models/y", {}, mine).ok());
  EXPECT_TRUE(
      client.MoveArtifact("fraud", "models/y", "models/z", {}, mine).ok());
  EXPECT_TRUE(client.DeleteArtifact("fraud", "models/z", {}, mine).ok());
  EXPECT_EQ(ErrorReason(client.MakeDirectory("fraud", "models/b").status()),
            "LEASE_HELD");
  EXPECT_EQ(ErrorReason(client.Delete("fraud", {.force = true}).status()),
            "LEASE_HELD");
  EXPECT_TRUE(client.Delete("fraud", {.force = true}, mine).ok());
}

TEST_F(LeaseTest, TheEnvironmentMayNameTheLeaseOfAnotherProcess) {
  const auto client_below = [this](const Lease& lease) {
    ::setenv("MLOPS_LEASE_PROJECT", lease.project().c_str(), 1);
    ::setenv("MLOPS_LEASE_FENCE", absl::StrCat(lease.fence()).c_str(), 1);
    WorkspaceClient child = service.Client();
    ::unsetenv("MLOPS_LEASE_PROJECT");
    ::unsetenv("MLOPS_LEASE_FENCE");
    return child;
  };
  const auto make = [](const WorkspaceClient& client, const char* project) {
    return ErrorReason(client.MakeDirectory(project, "models/a").status());
  };
  auto lease = Lease::Acquire(client, "fraud");
  ASSERT_TRUE(lease.ok()) << lease.status();
  const WorkspaceClient child = client_below(*lease);
  EXPECT_EQ(make(child, "fraud"), "");
  EXPECT_EQ(make(client, "fraud"), "LEASE_HELD");
  EXPECT_TRUE(child.Create("other").ok());
  EXPECT_EQ(make(child, "other"), "");
  EXPECT_TRUE(lease->Release().ok());
  EXPECT_EQ(make(child, "fraud"), "LEASE_LOST");

  // A deletion ends the lease, and so what a new workspace would refuse.
  auto next = Lease::Acquire(client, "fraud");
  ASSERT_TRUE(next.ok()) << next.status();
  const WorkspaceClient deleter = client_below(*next);
  EXPECT_TRUE(deleter.Delete("fraud", {.force = true}).ok());
  EXPECT_TRUE(deleter.Create("fraud").ok());
  EXPECT_EQ(make(deleter, "fraud"), "");
}

TEST_F(LeaseTest, ItIsReleasedAtItsEndAndOnlyOnce) {
  CallOptions mine;
  {
    auto lease = Lease::Acquire(client, "fraud");
    mine = lease->Options();
    Lease moved = *std::move(lease);
    EXPECT_TRUE(moved.Check().ok());
    EXPECT_EQ(Update(mine), "");
  }
  EXPECT_EQ(Update(mine), "LEASE_LOST");
  EXPECT_EQ(Update(), "");
  auto lease = Lease::Acquire(client, "fraud");
  EXPECT_GT(lease->fence(), mine.fence);
  EXPECT_TRUE(lease->Release().ok());
  EXPECT_TRUE(lease->lost());
  EXPECT_FALSE(lease->Release().ok());
}

TEST_F(LeaseTest, AnotherOneWaitsIfAsked) {
  auto first = Lease::Acquire(client, "fraud", {.holder = "a"});
  ASSERT_TRUE(first.ok());
  const absl::Status refused =
      Lease::Acquire(client, "fraud", {.holder = "b"}).status();
  EXPECT_EQ(ErrorReason(refused), "LEASE_HELD");
  EXPECT_EQ(ErrorMetadata(refused)["holder"], "a");
  EXPECT_TRUE(ErrorRetryDelay(refused).has_value());
  std::thread releasing([&] {
    absl::SleepFor(absl::Milliseconds(100));
    EXPECT_TRUE(first->Release().ok());
  });
  const auto second = Lease::Acquire(
      client, "fraud", {.holder = "b", .wait = absl::Seconds(30)});
  releasing.join();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_GT(second->fence(), first->fence());
}

TEST_F(LeaseTest, AWaitingOneHearsOfTheRelease) {
  auto first = Lease::Acquire(client, "fraud", {.holder = "a"});
  ASSERT_TRUE(first.ok());
  absl::Time released;
  std::thread releasing([&] {
    // A caller that asks once a second would ask next at 2 s.
    absl::SleepFor(absl::Milliseconds(1200));
    released = absl::Now();
    EXPECT_TRUE(first->Release().ok());
  });
  const auto second = Lease::Acquire(
      client, "fraud", {.holder = "b", .wait = absl::Seconds(30)});
  const absl::Time acquired = absl::Now();
  releasing.join();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_LT(acquired - released, absl::Milliseconds(500));
}

TEST_F(LeaseTest, AWaitingOneHearsOfTheExpiry) {
  ASSERT_TRUE(
      client.AcquireLease("fraud", "a", {.ttl = absl::Milliseconds(1200)})
          .ok());
  const absl::Time begin = absl::Now();
  const auto second = Lease::Acquire(
      client, "fraud", {.holder = "b", .wait = absl::Seconds(30)});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_GT(absl::Now() - begin, absl::Seconds(1));
}

TEST_F(LeaseTest, AWaitingOneAsksAgainIfItCannotWatch) {
  auto first = Lease::Acquire(client, "fraud", {.holder = "a"});
  ASSERT_TRUE(first.ok());
  std::thread releasing([&] {
    absl::SleepFor(absl::Milliseconds(200));
    // Meets the watch, which is the only call.
    service.FailNext(absl::UnimplementedError("old"));
    absl::SleepFor(absl::Milliseconds(200));
    EXPECT_TRUE(first->Release().ok());
  });
  const auto second = Lease::Acquire(
      client, "fraud", {.holder = "b", .wait = absl::Seconds(30)});
  releasing.join();
  EXPECT_TRUE(second.ok()) << second.status();
}

TEST_F(LeaseTest, WaitingEndsWithItsTimeAndWithAStop) {
  const auto first = Lease::Acquire(client, "fraud", {.holder = "a"});
  ASSERT_TRUE(first.ok());
  const absl::Time begin = absl::Now();
  EXPECT_EQ(ErrorReason(
                Lease::Acquire(client, "fraud",
                               {.holder = "b", .wait = absl::Milliseconds(300)})
                    .status()),
            "LEASE_HELD");
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(300));
  std::stop_source source;
  std::thread stopping([&] {
    absl::SleepFor(absl::Milliseconds(100));
    source.request_stop();
  });
  const absl::Status stopped =
      Lease::Acquire(client, "fraud",
                     {.holder = "b", .wait = absl::InfiniteDuration()},
                     {.stop = source.get_token()})
          .status();
  stopping.join();
  EXPECT_TRUE(absl::IsCancelled(stopped)) << stopped;
}

TEST_F(LeaseTest, ItIsRenewed) {
  auto lease = Lease::Acquire(client, "fraud", {.ttl = absl::Seconds(1)});
  ASSERT_TRUE(lease.ok());
  absl::SleepFor(absl::Milliseconds(1500));
  EXPECT_TRUE(lease->Check().ok());
  EXPECT_EQ(Update(lease->Options()), "");
}

TEST_F(LeaseTest, ItSaysThatItIsLost) {
  auto lease = Lease::Acquire(client, "fraud", {.ttl = absl::Seconds(1)});
  ASSERT_TRUE(lease.ok());
  ASSERT_TRUE(client.ReleaseLease("fraud", "", {.force = true}).ok());
  const auto other = client.AcquireLease("fraud", "other");
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(Update(lease->Options()), "LEASE_LOST");
  while (!lease->lost()) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(ErrorReason(lease->Check()), "LEASE_LOST");
  EXPECT_FALSE(lease->Release().ok());
  // It has not released the lease of the other holder.
  EXPECT_EQ(client.Get("fraud")->lease->fence, other->fence);
}

TEST_F(LeaseTest, AnErrorOfTheServerIsReturned) {
  EXPECT_EQ(ErrorReason(Lease::Acquire(client, "none").status()),
            "WORKSPACE_NOT_FOUND");
  EXPECT_EQ(
      ErrorReason(
          Lease::Acquire(client, "fraud", {.ttl = absl::Seconds(0)}).status()),
      "FIELD_INVALID");
  EXPECT_EQ(
      ErrorReason(Lease::Acquire(client, "fraud", {.holder = "\n"}).status()),
      "FIELD_INVALID");
}

}  // namespace
}  // namespace mlops
