#ifndef MLOPS_SERVICE_ARCHIVE_EXPORTER_H_
#define MLOPS_SERVICE_ARCHIVE_EXPORTER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/cpp/base/sha256.h"
#include "service/archive/entry_rules.h"
#include "service/archive/tar_format.h"
#include "service/artifacts/consistent_copy.h"
#include "service/artifacts/stage.h"
#include "service/artifacts/tree.h"
#include "service/base/clock.h"
#include "service/core/workspace.h"
#include "service/fs/dir.h"

namespace mlops::archive {

// Writes the archive of a workspace, piece by piece. Holds the names in
// the directories that are being read (kMaxOpenNameBytes) and one small file,
// and keeps a few directories open, however deep the tree is.
//
// Exports each file as it was at one moment. Reads small files before it sends
// them, and again if they change meanwhile. Reads large files while it sends
// them, and once more only if they grew, to find out whether anything else
// changed. Leaves out bytes that are appended after a file was opened.
// Copies a SQLite database with its log to the staging directory first,
// so that its writers wait for a copy, not for the client.
//
// Not thread-safe.
class Exporter {
 public:
  // Exports `tree`, the directory of `workspace`, with the content
  // of `directories`, which must be some of core::kDirectories, and empty
  // directories for the others. `stage` must outlive this. `clock` must return
  // the file system's time.
  Exporter(artifacts::ArtifactTree tree, core::WorkspacePtr workspace,
           std::vector<std::string> directories, artifacts::Stage* stage,
           base::Clock clock);

  // Stores the next bytes of the archive, at most `size`, in `buffer`
  // and returns their number, which is less than `size` only at the end. After
  // an error, nothing else may be called. Returns
  // - ABORTED/WORKSPACE_BUSY if a file changed while it was read;
  // - FAILED_PRECONDITION/PATH_UNSUITABLE if an entry cannot be imported:
  //   a special file, a link that leaves the workspace, a path that is too
  //   long, names that differ only in case, too many names in a directory;
  // - the errors of fs::Dir.
  absl::StatusOr<size_t> Read(char* buffer, size_t size);

  // Whether Read() has returned everything.
  bool done() const { return ended_ && begin_ == pending_.size(); }

 private:
  struct Name {
    // With a final '/' if it is a directory, as EntryOrder requires.
    std::string text;
    fs::EntryType type;
  };
  using Database = artifacts::StableFile;
  // A copy of a part of a database.
  struct Held {
    fs::FileStamp stamp;  // Of the part.
    // In memory if it is small.
    std::string content;
    std::unique_ptr<fs::FileReader> file;
    // Whether `file` is the part, not a copy.
    bool in_place = false;
  };
  // A directory on the path to the directory being read.
  struct Level {
    // "" for the workspace, whose entries are the five directories.
    std::string path;
    // Null while closed, and for the workspace.
    std::unique_ptr<fs::Dir> dir;
    // The names in it, the next one last.
    std::vector<Name> names;
    size_t name_bytes = 0;
  };

  // Appends the next entry to pending_, or begins the next large file, or ends.
  absl::Status NextEntry();
  absl::StatusOr<fs::Dir*> OpenLevel(Level& level);
  absl::Status AddEntry(Level& level, const Name& name);
  absl::Status AddTopDirectory(const std::string& name);
  absl::Status AddDirectory(Level& parent, const std::string& path,
                            absl::string_view name);
  absl::Status AddFile(Level& level, fs::Dir& dir, const std::string& path,
                       absl::string_view name);
  // Adds a large file, which is sent while it is read. Its header describes
  // `stamp`.
  absl::Status AddLargeFile(std::unique_ptr<fs::FileReader> file,
                            const fs::FileStamp& stamp,
                            const std::string& path);
  // Adds a SQLite database, and queues its log, which comes later
  // in byte order.
  absl::Status AddDatabase(Level& level, fs::Dir& dir, const std::string& path,
                           absl::string_view name);
  // Returns a copy of one part of a database whose parts have `size_bytes`
  // in total.
  absl::StatusOr<Held> Hold(fs::Dir& dir, const Database::Part& part,
                            int64_t size_bytes);
  absl::Status AddHeld(Held held, const std::string& path);
  absl::Status ChangedMeanwhile(const std::string& path) const;
  absl::Status AddLink(const fs::Dir& dir, const std::string& path,
                       absl::string_view name);
  // Checks and appends the header of an entry.
  absl::Status AddHeader(const TarEntry& entry);
  // Adds a directory, and begins its content if it is selected.
  absl::Status Enter(std::string path, std::unique_ptr<fs::Dir> dir);
  absl::Status AddSmallFile(std::unique_ptr<fs::FileReader> file,
                            fs::FileStamp stamp, const std::string& path);
  // Adds a file with this content.
  absl::Status AddContent(const std::string& data, const fs::FileStamp& stamp,
                          const std::string& path);
  // Returns whether the content that was read, which has this SHA-256,
  // was the file's state at one moment. Reads it again if the file grew.
  absl::StatusOr<bool> IsWhole(const std::string& sha256);
  // Returns the next bytes of file_.
  absl::StatusOr<size_t> ReadFile(char* buffer, size_t size);
  // Appends a file that is not part of the workspace.
  void AddOwnFile(absl::string_view name, absl::string_view content);
  void AddPadding(int64_t size_bytes);
  void AddChecksums();
  bool IsSelected(absl::string_view directory) const;
  absl::Status Unsuitable(const std::string& path,
                          absl::string_view problem) const;
  // Converts an error of fs::Dir about `path` to one of the contract.
  absl::Status Error(const absl::Status& status, const std::string& path) const;

  const artifacts::ArtifactTree tree_;
  const core::WorkspacePtr workspace_;
  const std::vector<std::string> directories_;
  artifacts::Stage* const stage_;
  const base::Clock clock_;

  // For copies of databases; null until it is needed.
  std::unique_ptr<artifacts::StagedTree> staged_;
  // Logs of databases that are still to be added, by path.
  std::map<std::string, Held> held_;
  EntryOrder order_;
  ChecksumList checksums_;
  int lists_ = 0;
  std::vector<Level> levels_;
  size_t open_name_bytes_ = 0;
  // Bytes to return next, of which the first `begin_` were returned.
  std::string pending_;
  size_t begin_ = 0;
  // A large file that is being read.
  std::unique_ptr<fs::FileReader> file_;
  fs::FileStamp file_stamp_;
  std::string file_path_;
  int64_t file_offset_ = 0;
  std::unique_ptr<base::Sha256> file_sha256_;
  bool ended_ = false;
};

}  // namespace mlops::archive

#endif  // MLOPS_SERVICE_ARCHIVE_EXPORTER_H_
