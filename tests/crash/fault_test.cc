// Runs changes while each mutating call of the real file system in turn fails.
// The caller must get the error, no change may be half done, and the catalog
// must continue unless it can no longer know what is on disk.
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cpp/base/error.h"
#include "tests/crash/scenario.h"
#include "tests/support/fault_dir.h"

namespace mlops::crash {
namespace {

using catalog::FileCatalog;
using support::FaultDir;
using support::Faults;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A way in which calls fail.
struct Way {
  std::string name;
  Faults::Plan plan;
};

absl::Status Error(absl::StatusCode code, std::string reason) {
  return base::MakeError(
      code, "a fault",
      {.reason = std::move(reason), .metadata = {{"path", "somewhere"}}});
}

std::ostream& operator<<(std::ostream& out, const Way& way) {
  return out << way.name;
}

const std::vector<Way>& Ways() {
  static const absl::Status io_error =
      Error(absl::StatusCode::kInternal, "IO_ERROR");
  static const absl::Status no_space =
      Error(absl::StatusCode::kResourceExhausted, "NO_SPACE");
  static const auto& ways = *new std::vector<Way>{
      {"IoErrorOnce", {.error = io_error}},
      {"IoErrorFromThenOn", {.all_after = true, .error = io_error}},
      {"NoSpaceOnce", {.error = no_space}},
      {"NoSpaceFromThenOn", {.all_after = true, .error = no_space}},
      {"DoneAndNotTold", {.performed = true, .error = io_error}},
  };
  return ways;
}

// A directory of the real file system, filled, and a catalog over it.
class Base {
 public:
  explicit Base(bool portable) : portable_(portable) {
    // Prefer memory: no test here depends on the disk, and thousands of syncs
    // would take minutes.
    std::string path = std::filesystem::exists("/dev/shm")
                           ? "/dev/shm/mlops-fault-XXXXXX"
                           : "/tmp/mlops-fault-XXXXXX";
    path_ = ::mkdtemp(path.data());
    Fill([this] { return OpenDir(); }, shifted_.clock());
    Reopen();
  }
  ~Base() { std::filesystem::remove_all(path_); }

  void Reopen() { catalog_ = Open(OpenDir(), shifted_.clock()); }
  // Opens the base with a temporary catalog and ignores the result.
  void TryReopen() {
    catalog_.reset();
    FileCatalog::Open(OpenDir(), std::string(kBasePath),
                      {.purge_delay = kPurgeDelay})
        .status()
        .IgnoreError();
  }
  // Creates what a crash leaves of a workspace that is being created.
  void MakeLeftover() {
    const auto staging = OpenDir()->OpenDir(".staging").value();
    ASSERT_TRUE(staging->MakeDir("leftover").ok());
    ASSERT_TRUE(staging->MakeDir("leftover/models").ok());
  }
  absl::Status Run(const Operation& operation) {
    return operation.run(*catalog_, shifted_);
  }
  std::string Describe() { return crash::Describe(*catalog_, *OpenDir()); }
  std::vector<std::string> Names(absl::string_view dir) {
    return crash::Names(*OpenDir(), dir);
  }

  Faults& faults() { return faults_; }
  bool healthy() const { return catalog_->healthy(); }

 private:
  std::unique_ptr<fs::Dir> OpenDir() {
    return std::make_unique<FaultDir>(
        fs::OpenBaseDir(path_, {.portable = portable_}).value(), &faults_);
  }

  const bool portable_;
  std::string path_;
  Faults faults_;
  ShiftedClock shifted_{base::SystemClock()};
  std::unique_ptr<catalog::FileCatalog> catalog_;
};

class FaultTest
    : public testing::TestWithParam<std::tuple<Operation, Way, bool>> {
 protected:
  const Operation& operation() const { return std::get<0>(GetParam()); }
  bool portable() const { return std::get<2>(GetParam()); }

  void SetUp() override {
    Base base(portable());
    before_ = base.Describe();
    ASSERT_TRUE(base.Run(operation()).ok());
    after_ = base.Describe();
    ASSERT_NE(before_, after_);
    ASSERT_THAT(before_ + after_, Not(HasSubstr("TORN")));
  }

  // Runs the operation with a fault at the mutating call number `call`. Returns
  // whether the operation came that far.
  bool FailAt(int call) {
    SCOPED_TRACE(testing::Message() << "call " << call);
    Base base(portable());
    Faults::Plan plan = std::get<1>(GetParam()).plan;
    plan.call = call;
    base.faults().Begin(plan);
    const absl::Status status = base.Run(operation());
    base.faults().End();
    CheckToldAndWhole(base, status);
    CheckGoesOn(base);
    return base.faults().happened();
  }

  // Checks that the operation either happened completely, or did not happen and
  // returned an error.
  void CheckToldAndWhole(Base& base, const absl::Status& status) {
    const std::string found = base.Describe();
    if (status.ok()) {
      EXPECT_EQ(found, after_);
    } else {
      EXPECT_THAT(found, AnyOf(before_, after_));
      EXPECT_THAT(base::GetReason(status), AnyOf("IO_ERROR", "NO_SPACE"))
          << status;
    }
  }

  // Checks that a retry succeeds, unless the disk is unhealthy, and that the
  // catalog agrees with what a new catalog reads from disk.
  void CheckGoesOn(Base& base) {
    const absl::Status again = base.Run(operation());
    if (base.healthy()) {
      EXPECT_TRUE(again.ok() || again.code() == operation().already_done)
          << again;
      EXPECT_EQ(base.Describe(), after_);
    } else {
      EXPECT_FALSE(again.ok());
    }
    const std::string said = base.Describe();
    base.Reopen();
    EXPECT_EQ(base.Describe(), said);
    EXPECT_THAT(base.Names(".staging"), IsEmpty());
  }

  std::string before_, after_;
};

TEST_P(FaultTest, LeavesTheOldStateOrTheNewOneAndTellsTheCaller) {
  for (int call = 1; FailAt(call); ++call) ASSERT_LT(call, 1000);
}

TEST(OpenFaultTest, FailsOrWorksAndHarmsNothing) {
  for (const Way& way : Ways()) {
    SCOPED_TRACE(way.name);
    Base base(/*portable=*/false);
    const std::string before = base.Describe();
    Faults::Plan plan = way.plan;
    for (plan.call = 1; plan.call == 1 || base.faults().happened();
         ++plan.call) {
      base.MakeLeftover();
      base.faults().Begin(plan);
      base.TryReopen();
      base.faults().End();
      base.Reopen();
      EXPECT_EQ(base.Describe(), before);
      EXPECT_THAT(base.Names(".staging"), IsEmpty());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, FaultTest,
                         testing::Combine(testing::ValuesIn(Operations()),
                                          testing::ValuesIn(Ways()),
                                          testing::Bool()),
                         [](const auto& info) {
                           return std::get<0>(info.param).name +
                                  std::get<1>(info.param).name +
                                  (std::get<2>(info.param) ? "Portable" : "");
                         });

}  // namespace
}  // namespace mlops::crash
