// Writes, moves, copies and deletes artifacts while each mutating call in turn
// fails, or the power is cut at it. Each name must hold the whole old or the
// whole new file, and acknowledged changes must survive.
#include "service/artifacts/artifacts.h"

#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cpp/base/error.h"
#include "service/catalog/memory_catalog.h"
#include "service/fs/atomic_file.h"
#include "tests/support/fault_dir.h"
#include "tests/support/memory_disk.h"
#include "tests/support/observed_dir.h"
#include "tests/support/workspaces.h"

namespace mlops::crash {
namespace {

using artifacts::Artifact;
using artifacts::Artifacts;
using artifacts::RelativePath;
using support::Faults;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kSeeds = 20;

RelativePath Path(absl::string_view text) {
  return RelativePath::Parse(text, RelativePath::Use::kFind).value();
}
core::ProjectName Fraud() { return support::Project("fraud"); }
bool Never() { return false; }

// Uploads like a client that retries until it succeeds: resumes at the current
// offset, in two streams.
absl::Status Upload(Artifacts& artifacts, absl::string_view path,
                    absl::string_view content) {
  artifacts::WriteArgs args{
      .project = Fraud(), .path = Path(path), .upload_id = "id"};
  for (const size_t end : {content.size() / 2, content.size()}) {
    args.offset = 0;
    const auto upload = artifacts.GetUpload(Fraud(), "id");
    if (!upload.ok() && !absl::IsNotFound(upload.status()))
      return upload.status();
    if (upload.ok()) {
      if (upload->artifact) return absl::OkStatus();
      args.offset = upload->offset;
    }
    auto writer = artifacts.OpenForWrite(args);
    if (!writer.ok()) return writer.status();
    // Hash what an earlier stream has staged.
    for (absl::StatusOr<bool> more = true; more.ok() && *more;)
      more = (*writer)->Rehash();
    const auto begin = static_cast<size_t>(args.offset);
    if (begin < end) {
      absl::Status written =
          (*writer)->Write({content.substr(begin, end - begin)});
      if (!written.ok()) return written;
    }
    if (end == content.size()) return (*writer)->Finish().status();
  }
  return absl::OkStatus();
}

absl::Status Write(Artifacts& artifacts, absl::string_view path,
                   absl::string_view content) {
  auto writer =
      artifacts.OpenForWrite({.project = Fraud(), .path = Path(path)});
  if (!writer.ok()) return writer.status();
  if (absl::Status written = (*writer)->Write({content}); !written.ok())
    return written;
  return (*writer)->Finish().status();
}

struct Operation {
  std::string name;
  std::function<absl::Status(Artifacts&)> run;
  // The code that a second run may return if the first one took effect although
  // it returned an error.
  absl::StatusCode already_done = absl::StatusCode::kOk;
};
std::ostream& operator<<(std::ostream& out, const Operation& operation) {
  return out << operation.name;
}

artifacts::TransferArgs Transfer(absl::string_view from, absl::string_view to) {
  return {.project = Fraud(), .path = Path(from), .destination = Path(to)};
}

std::vector<Operation> Operations() {
  const auto remove = [](absl::string_view path) {
    return [path = Path(path)](Artifacts& a) {
      return a.Delete({.project = Fraud(), .path = path, .force = true}, Never)
          .status();
    };
  };
  return {
      {"WriteNew",
       [](Artifacts& a) { return Write(a, "models/new/dir/file", "content"); }},
      {"Replace",
       [](Artifacts& a) { return Write(a, "models/file", "another content"); }},
      {"Upload",
       [](Artifacts& a) {
         return Upload(a, "models/new/file", "content in two parts");
       }},
      {"UploadOver",
       [](Artifacts& a) {
         return Upload(a, "models/file", "content in two parts");
       }},
      {"MoveFile",
       [](Artifacts& a) {
         return a.Move(Transfer("models/file", "outputs/a/b")).status();
       },
       absl::StatusCode::kNotFound},
      {"MoveOver",
       [](Artifacts& a) {
         return a.Move(Transfer("models/file", "models/run/1")).status();
       },
       absl::StatusCode::kNotFound},
      {"MoveDirectory",
       [](Artifacts& a) {
         return a.Move(Transfer("models/run", "outputs/run")).status();
       },
       absl::StatusCode::kNotFound},
      {"Copy",
       [](Artifacts& a) {
         return a.Copy(Transfer("models/file", "models/run/1"), Never).status();
       }},
      {"DeleteFile", remove("models/file"), absl::StatusCode::kNotFound},
      {"DeleteDirectory", remove("models/run"), absl::StatusCode::kNotFound},
  };
}

// Adds one line for each file below `dir`, with its path and content.
void Describe(const fs::Dir& dir, const std::string& prefix,
              std::vector<std::string>& lines) {
  std::map<std::string, fs::EntryType> entries;
  EXPECT_TRUE(dir.ForEachEntry([&](absl::string_view name, fs::EntryType type) {
                   entries.emplace(name, type);
                   return true;
                 })
                  .ok());
  for (const auto& [name, type] : entries) {
    if (type == fs::EntryType::kDirectory) {
      Describe(*dir.OpenDir(name).value(), absl::StrCat(prefix, name, "/"),
               lines);
    } else {
      lines.push_back(absl::StrCat(prefix, name, "=",
                                   dir.ReadFile(name, 1 << 20).value().data));
    }
  }
}

// A disk in memory with a workspace that has files.
class Disk {
 public:
  Disk() {
    EXPECT_TRUE(
        catalog_.Commit(core::CreateChange{support::NewWorkspace("fraud")})
            .ok());
    const auto top = disk_.OpenTop();
    for (const char* dir : {"fraud", "fraud/models", "fraud/outputs",
                            "fraud/models/run", "fraud/models/run/sub"}) {
      EXPECT_TRUE(top->MakeDir(dir).ok());
    }
    for (const char* file :
         {"models/file", "models/run/1", "models/run/sub/2"}) {
      EXPECT_TRUE(fs::WriteNewFile(*top, absl::StrCat("fraud/", file),
                                   absl::StrCat("old ", file))
                      .ok());
    }
    disk_.SyncAll();
    Restart();
  }

  // Replaces the server's state, as a restart of the process does.
  void Restart() {
    health_ = std::make_shared<core::DiskHealth>();
    auto dir = std::make_unique<support::FaultDir>(disk_.OpenTop(), &faults_);
    artifacts_ = std::make_unique<Artifacts>(
        &catalog_,
        std::make_unique<support::ObservedDir>(std::move(dir), observer_),
        artifacts::UploadOptions{.clock = disk_.clock(),
                                 .boot_id = absl::StrCat("boot ", boots_),
                                 .health = health_});
  }
  // With seed 0, nothing unsynced survives; other seeds choose at random.
  void CutPower(int seed) {
    std::mt19937 random(seed);
    disk_.CutPower([&] { return seed > 0 && random() % 2 == 0; });
    faults_.End();
    ++boots_;
    Restart();
  }
  absl::Status Run(const Operation& operation) {
    return operation.run(*artifacts_);
  }
  Faults& faults() { return faults_; }
  support::DirObserver& observer() { return *observer_; }
  bool healthy() const { return health_->ok(); }

  // Describes the files that users see, without empty directories.
  std::string Describe() {
    std::vector<std::string> lines;
    for (const char* dir : {"models", "outputs"}) {
      crash::Describe(
          *disk_.OpenTop()->OpenDir(absl::StrCat("fraud/", dir)).value(),
          absl::StrCat(dir, "/"), lines);
    }
    return absl::StrJoin(lines, "\n");
  }
  // Returns the files in `.uploads` that remain after a sweep, except for the
  // resumable upload.
  std::vector<std::string> Leftovers() {
    artifacts_->SweepSome();
    std::vector<std::string> lines;
    const auto dir = disk_.OpenTop()->OpenDir("fraud/.uploads");
    if (dir.ok()) crash::Describe(**dir, "", lines);
    std::erase_if(lines, [](const std::string& line) {
      return absl::StartsWith(line, "id.");
    });
    return lines;
  }

 private:
  support::MemoryDisk disk_;
  Faults faults_;
  const std::shared_ptr<support::DirObserver> observer_ =
      std::make_shared<support::DirObserver>();
  catalog::MemoryCatalog catalog_;
  std::shared_ptr<core::DiskHealth> health_;
  std::unique_ptr<Artifacts> artifacts_;
  int boots_ = 0;
};

class ArtifactCrashTest : public testing::TestWithParam<Operation> {
 protected:
  void SetUp() override {
    Disk disk;
    before_ = disk.Describe();
    ASSERT_TRUE(disk.Run(GetParam()).ok());
    after_ = disk.Describe();
    ASSERT_NE(before_, after_);
  }

  // Checks that the operation succeeds now and leaves no temporary files.
  void Finish(Disk& disk) {
    // An unhealthy disk refuses changes until a restart.
    if (!disk.healthy()) {
      EXPECT_EQ(disk.Run(GetParam()).code(), absl::StatusCode::kInternal);
      disk.Restart();
    }
    const absl::Status again = disk.Run(GetParam());
    EXPECT_TRUE(again.ok() || again.code() == GetParam().already_done) << again;
    EXPECT_EQ(disk.Describe(), after_);
    disk.Restart();
    EXPECT_THAT(disk.Leftovers(), IsEmpty());
  }

  // Runs the operation with a power cut at the mutating call number `call`.
  // Returns whether the operation came that far.
  bool CutAt(int call, int seed) {
    SCOPED_TRACE(testing::Message() << "call " << call << ", seed " << seed);
    Disk disk;
    disk.faults().Begin({.call = call, .all_after = true, .reads_too = true});
    const absl::Status status = disk.Run(GetParam());
    const bool cut = disk.faults().happened();
    disk.CutPower(seed);
    if (status.ok()) {
      EXPECT_EQ(disk.Describe(), after_);
    } else {
      EXPECT_THAT(disk.Describe(), AnyOf(before_, after_));
    }
    Finish(disk);
    return cut;
  }

  // Runs the operation with a fault at the mutating call number `call`. Returns
  // whether the operation came that far.
  bool FailAt(int call, Faults::Plan plan) {
    SCOPED_TRACE(testing::Message() << "call " << call << " " << plan.error);
    Disk disk;
    plan.call = call;
    disk.faults().Begin(plan);
    const absl::Status status = disk.Run(GetParam());
    disk.faults().End();
    if (status.ok()) {
      EXPECT_EQ(disk.Describe(), after_);
    } else {
      EXPECT_THAT(disk.Describe(), AnyOf(before_, after_));
      EXPECT_THAT(base::GetReason(status), AnyOf("IO_ERROR", "NO_SPACE"))
          << status;
    }
    Finish(disk);
    return disk.faults().happened();
  }

  std::string before_, after_;
};

TEST_P(ArtifactCrashTest,
       APowerCutLeavesTheOldFileOrTheNewOneWhateverSurvives) {
  for (int seed = 0; seed <= kSeeds; ++seed) {
    for (int call = 1; CutAt(call, seed); ++call) ASSERT_LT(call, 1000);
  }
}

TEST_P(ArtifactCrashTest, AFailureLeavesTheOldFileOrTheNewOneAndIsTold) {
  const auto error = [](absl::StatusCode code, std::string reason) {
    return base::MakeError(
        code, "a fault",
        {.reason = std::move(reason), .metadata = {{"path", "somewhere"}}});
  };
  for (const absl::Status& told :
       {error(absl::StatusCode::kInternal, "IO_ERROR"),
        error(absl::StatusCode::kResourceExhausted, "NO_SPACE")}) {
    for (const Faults::Plan& plan :
         {Faults::Plan{.error = told},
          Faults::Plan{.all_after = true, .error = told},
          Faults::Plan{.count_reads = true, .error = told},
          Faults::Plan{.all_after = true, .count_reads = true, .error = told},
          Faults::Plan{.performed = true, .error = told}}) {
      for (int call = 1; FailAt(call, plan); ++call) ASSERT_LT(call, 1000);
    }
  }
}

// The server does not sync directories again that it knows to be durable; the
// second file must survive nevertheless.
TEST(DurableDirectoriesTest, AreThereForEachFile) {
  Disk disk;
  const Operation twice{
      "twice", [](Artifacts& a) {
        absl::Status written = Write(a, "models/new/dir/file", "content");
        return written.ok() ? Write(a, "models/new/dir/beside", "content")
                            : written;
      }};
  ASSERT_TRUE(disk.Run(twice).ok());
  const std::string before = disk.Describe();
  disk.CutPower(0);
  EXPECT_EQ(disk.Describe(), before);
}

// The server knew the directory to be durable at its original place. While it
// moves the directory back, but before it syncs the move, a new file must not
// rely on that knowledge.
TEST(DurableDirectoriesTest, AreNotBelievedOnceTheyWereMoved) {
  Disk disk;
  const auto move = [](absl::string_view from, absl::string_view to) {
    return Operation{"move", [from, to](Artifacts& a) {
                       return a.Move(Transfer(from, to)).status();
                     }};
  };
  const auto write = [](absl::string_view path) {
    return Operation{
        "write", [path](Artifacts& a) { return Write(a, path, "content"); }};
  };
  ASSERT_TRUE(disk.Run(write("models/run/file")).ok());
  ASSERT_TRUE(disk.Run(move("models/run", "outputs/run")).ok());
  bool renamed_back = false;
  disk.observer().SetBefore([&](absl::string_view call) {
    if (call != "Sync fraud/models" || std::exchange(renamed_back, true))
      return absl::OkStatus();
    EXPECT_TRUE(disk.Run(write("models/run/beside")).ok());
    return absl::CancelledError("the power goes");
  });
  EXPECT_FALSE(disk.Run(move("outputs/run", "models/run")).ok());
  disk.CutPower(0);
  EXPECT_THAT(disk.Describe(), HasSubstr("models/run/beside=content"));
}

INSTANTIATE_TEST_SUITE_P(All, ArtifactCrashTest,
                         testing::ValuesIn(Operations()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mlops::crash
