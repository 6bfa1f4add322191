#ifndef MLOPS_TESTS_CATALOG_HARNESS_H_
#define MLOPS_TESTS_CATALOG_HARNESS_H_

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "service/catalog/file_catalog.h"
#include "service/core/catalog.h"
#include "service/core/change_log.h"
#include "tests/support/fake_clock.h"
#include "tests/support/observed_dir.h"
#include "tests/support/temp_dir.h"

namespace mlops::catalog {

// A catalog under test, of any kind.
class Harness {
 public:
  virtual ~Harness() = default;
  virtual core::Catalog& catalog() = 0;
  // The log that the current catalog feeds.
  virtual core::ChangeLog& changes() = 0;
  virtual std::string base_path() const = 0;
  // Returns whether committed changes survive the catalog, so that Reopen()
  // is meaningful.
  virtual bool durable() const = 0;
  // Closes the catalog and opens a new one on the same data.
  virtual void Reopen() = 0;
  // Returns the name of a staged directory with the file `models/model.bin`;
  // see core::CreateChange.
  virtual std::string Stage() = 0;

  support::JumpingClock clock;
};

std::unique_ptr<Harness> MakeMemoryHarness();

// A FileCatalog on a temporary directory, with an observer of all its file
// system calls.
class FileHarness : public Harness {
 public:
  // Uses Linux calls, or only portable ones if `portable` is set.
  explicit FileHarness(bool portable = false,
                       absl::Duration purge_delay = absl::Hours(72));

  FileCatalog& catalog() override { return *catalog_; }
  core::ChangeLog& changes() override { return *logs_.back(); }
  std::string base_path() const override { return base_.path(); }
  bool durable() const override { return true; }
  void Reopen() override;
  std::string Stage() override;
  // Destroys the catalog. Call Reopen() before using it again.
  void Close() { catalog_.reset(); }
  // Reopens the catalog on another directory, to which the base was moved.
  void ReopenAt(const std::string& path);
  absl::StatusOr<std::unique_ptr<FileCatalog>> TryOpen(const std::string& path);

  const support::TempDir& base() const { return base_; }
  support::DirObserver& observer() { return *observer_; }

  absl::Duration purge_delay;
  std::vector<std::string> log_lines;

 private:
  const bool portable_;
  const support::TempDir base_;
  const std::shared_ptr<support::DirObserver> observer_ =
      std::make_shared<support::DirObserver>();
  // One per opened catalog.
  std::vector<std::unique_ptr<core::ChangeLog>> logs_;
  std::unique_ptr<FileCatalog> catalog_;
};

// Returns the changes in `log` after `cursor`, each as its kind and project,
// for example "created fraud".
std::vector<std::string> ChangesAfter(const core::ChangeLog& log,
                                      int64_t cursor);

// Fixture of tests for FileCatalog only, run with Linux calls and with
// portable ones.
class FileCatalogTest : public testing::TestWithParam<bool> {
 protected:
  bool portable() const { return GetParam(); }

  core::WorkspacePtr Create(absl::string_view name, int64_t seconds = 0);
  absl::StatusOr<core::WorkspacePtr> Get(absl::string_view name);
  // Returns the names on one large page, including the trash
  // if `show_deleted` is set.
  std::vector<std::string> Listed(bool show_deleted = false);
  std::vector<std::string> Unreachable();
  FileCatalog& catalog() { return files.catalog(); }
  const support::TempDir& base() const { return files.base(); }

  FileHarness files{GetParam()};
};

// Names the two runs.
std::string CallsName(const testing::TestParamInfo<bool>& info);

}  // namespace mlops::catalog

#endif  // MLOPS_TESTS_CATALOG_HARNESS_H_
