// Checks the locations in a workspace's MLflow store.
#include <sqlite3.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "service/doctor/check.h"
#include "service/doctor/place.h"

namespace mlops::doctor {
namespace {

constexpr char kStore[] = "mlflow/mlflow.db";
// Maximum number of rows to read for one column.
constexpr int kMaxRows = 100'000;
// A query ends after kMaxSteps * kInstructionsPerStep of SQLite's instructions,
// which take some seconds: a view in a hostile file could run forever.
constexpr int kMaxSteps = 20'000;
constexpr int kInstructionsPerStep = 1000;

// Tables and columns in which MLflow stores locations. Columns that a version
// lacks are skipped.
constexpr std::pair<const char*, const char*> kLocations[] = {
    {"experiments", "artifact_location"},
    {"runs", "artifact_uri"},
    {"logged_models", "artifact_location"},
    {"model_versions", "source"},
    {"model_versions", "storage_location"}};

// Reads a database without locks, without a journal, and without creating
// a file. Does not disturb a program that writes to it meanwhile,
// which may make reads fail.
class Store {
 public:
  // Returns null if the file cannot be opened. Whether it is a database shows
  // only at the first query.
  static std::unique_ptr<Store> Open(const std::string& path) {
    auto store = std::unique_ptr<Store>(new Store);
    const std::string escaped =
        absl::StrReplaceAll(path, {{"%", "%25"}, {"?", "%3f"}, {"#", "%23"}});
    // With immutable=1, SQLite takes no lock and creates no file.
    const std::string uri =
        absl::StrCat("file:", escaped, "?mode=ro&immutable=1");
    constexpr int kFlags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI |
                           SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(uri.c_str(), &store->handle_, kFlags, nullptr) !=
        SQLITE_OK)
      return nullptr;
    // A damaged or hostile file must neither run code nor occupy
    // a thread forever.
    sqlite3_db_config(store->handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(store->handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0,
                      nullptr);
    sqlite3_progress_handler(store->handle_, kInstructionsPerStep, &Store::Step,
                             store.get());
    return store;
  }

  ~Store() { sqlite3_close_v2(handle_); }

  // Calls `visit` with the first column of each row that has text there.
  // Returns false if the query fails.
  template <typename Visit>
  bool Query(const std::string& sql, Visit visit) {
    steps_ = 0;
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(handle_, sql.c_str(), -1, &statement, nullptr) !=
        SQLITE_OK)
      return false;
    int result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
      if (sqlite3_column_type(statement, 0) != SQLITE_TEXT) continue;
      const auto* text =
          reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
      visit(absl::string_view(
          text, static_cast<size_t>(sqlite3_column_bytes(statement, 0))));
    }
    sqlite3_finalize(statement);
    return result == SQLITE_DONE;
  }

  bool HasColumn(absl::string_view table, absl::string_view column) {
    bool found = false;
    Query(absl::StrCat("SELECT name FROM pragma_table_info('", table, "')"),
          [&](absl::string_view name) { found = found || name == column; });
    return found;
  }

 private:
  Store() = default;

  // Ends queries that take too long.
  static int Step(void* store) {
    return ++static_cast<Store*>(store)->steps_ > kMaxSteps;
  }

  sqlite3* handle_ = nullptr;
  int steps_ = 0;
};

// Returns the path of the workspace for which the client last wrote
// the locations, or "" if the store does not say.
std::string RecordedRoot(Store& store) {
  std::string root;
  if (store.HasColumn("mlops_workspace", "root")) {
    store.Query("SELECT root FROM mlops_workspace LIMIT 1",
                [&](absl::string_view text) { root = std::string(text); });
  }
  if (!root.empty() || !store.HasColumn("experiments", "artifact_location"))
    return root;
  // MLflow creates this experiment together with the store, in the workspace
  // where it was then.
  store.Query(
      "SELECT artifact_location FROM experiments WHERE experiment_id = 0",
      [&](absl::string_view text) {
        const std::string path = PathOf(text).value_or("");
        absl::string_view rest = path;
        if (absl::ConsumeSuffix(&rest, "/mlflow/artifacts/0"))
          root = std::string(rest);
      });
  return root;
}

// Locations that are wrong for the same reason.
struct Group {
  int64_t count = 0;
  std::string example;

  void Add(absl::string_view column, absl::string_view location) {
    if (count++ == 0) example = absl::StrCat(column, " ", location);
  }
  std::string Describe() const {
    return count == 1 ? absl::StrCat("has a location (", example, ")")
                      : absl::StrCat("has ", count, " locations (the first is ",
                                     example, ")");
  }
};

class LocationCheck {
 public:
  LocationCheck(const ProjectView& project, Store& store)
      : project_(project),
        store_(store),
        root_(project.path()),
        old_root_(RecordedRoot(store)) {
    // The workspace has not moved if the old path still leads to it.
    if (!old_root_.empty() && fs::ResolvedPath(old_root_) == root_)
      alias_ = std::exchange(old_root_, "");
  }

  // Returns false if the store cannot be read.
  bool Run() {
    for (const auto& [table, column] : kLocations) {
      if (!store_.HasColumn(table, column)) continue;
      const std::string name = absl::StrCat(table, ".", column);
      const bool read = store_.Query(
          absl::StrCat("SELECT ", column, " FROM ", table, " LIMIT ", kMaxRows),
          [&](absl::string_view location) { Sort(name, location); });
      if (!read) return false;
    }
    return true;
  }

  void Report(Findings& findings) const {
    if (moved_.count > 0) {
      Finding finding = project_.At(Severity::kWarning, "mlflow-moved", kStore);
      finding.problem = absl::StrCat(moved_.Describe(), " below ", old_root_,
                                     ", where the workspace was before");
      finding.fix =
          "Open the workspace once with MLOpsClient, which rewrites them";
      findings.Add(std::move(finding));
    }
    if (elsewhere_.count > 0) {
      Finding finding =
          project_.At(Severity::kWarning, "mlflow-elsewhere", kStore);
      finding.problem = absl::StrCat(
          elsewhere_.Describe(),
          " in another workspace, which may be deleted without this one");
      finding.fix =
          "Log new runs to the workspace's own experiment, and copy what you "
          "need from the other one";
      findings.Add(std::move(finding));
    }
  }

 private:
  void Sort(absl::string_view column, absl::string_view location) {
    const auto path = PathOf(location);
    if (!path || IsWithin(*path, root_) ||
        (!alias_.empty() && IsWithin(*path, alias_)))
      return;
    // Check the old place first, because another workspace may have
    // its name now.
    if (!old_root_.empty() && IsWithin(*path, old_root_)) {
      moved_.Add(column, location);
    } else if (core::ProjectName::IsValid(EntryOf(*path, project_.base.path))) {
      elsewhere_.Add(column, location);
    }
  }

  const ProjectView& project_;
  Store& store_;
  const std::string root_;
  // "" if the workspace has not moved.
  std::string old_root_;
  // Another path of the workspace, or "".
  std::string alias_;
  Group moved_, elsewhere_;
};

// Returns whether the file alone has all committed changes. Otherwise a program
// is writing to it, or was killed while it did; the next program that opens
// the database completes or undoes its work.
bool IsSettled(const fs::Dir& dir) {
  for (absl::string_view suffix : {"-journal", "-wal"}) {
    const auto stamp = dir.Stat(absl::StrCat(kStore, suffix));
    if (stamp.ok() && stamp->size_bytes > 0) return false;
  }
  return true;
}

}  // namespace

void CheckMlflow(ProjectView& project, Findings& findings) {
  const auto stamp = project.dir.Stat(kStore);
  // Until a database is settled, its file alone may look damaged.
  if (!project.workspace || !stamp.ok() ||
      stamp->type != fs::EntryType::kFile || stamp->size_bytes == 0 ||
      !IsSettled(project.dir)) {
    return;
  }
  const auto store = Store::Open(absl::StrCat(project.path(), "/", kStore));
  if (store != nullptr) {
    LocationCheck check(project, *store);
    // Opening checks no content; this query shows whether it is a database.
    if (store->Query("SELECT name FROM sqlite_master LIMIT 1",
                     [](absl::string_view) {}) &&
        check.Run()) {
      return check.Report(findings);
    }
  }
  // A program may have begun to write, or removed the file.
  const auto now = project.dir.Stat(kStore);
  if (!now.ok() || !(*now == *stamp) || !IsSettled(project.dir)) return;
  Finding finding = project.At(Severity::kWarning, "mlflow-unreadable", kStore);
  finding.problem = "cannot be read as a database of MLflow";
  finding.fix = "Run sqlite3 FILE .recover, or restore it from a backup";
  findings.Add(std::move(finding));
}

}  // namespace mlops::doctor
