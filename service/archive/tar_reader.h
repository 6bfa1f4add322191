#ifndef MLOPS_SERVICE_ARCHIVE_TAR_READER_H_
#define MLOPS_SERVICE_ARCHIVE_TAR_READER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/archive/tar_format.h"

namespace mlops::archive {

// Receives the content of an archive in the order of its entries. The first
// error that a method returns ends the reading.
class TarVisitor {
 public:
  virtual ~TarVisitor() = default;
  // Called for each entry. Its path is not checked.
  virtual absl::Status Begin(const TarEntry& entry) = 0;
  // Called with the next bytes of a file, which are never empty.
  virtual absl::Status Data(absl::string_view bytes) = 0;
  // Called after the last byte of each entry.
  virtual absl::Status End() = 0;
};

// Reads an archive that arrives in chunks of any size, and holds at most
// kMaxPaxBytes of it. Accepts files, directories and symbolic links in the pax
// format. Not thread-safe.
//
// Errors are those of the visitor, and INVALID_ARGUMENT/ARCHIVE_INVALID
// {entry, problem} for everything else: hard links, devices, FIFOs, other
// formats and their extensions, wrong checksums, and an archive that
// is truncated or continues after its end.
class TarReader {
 public:
  // `visitor` must outlive this.
  explicit TarReader(TarVisitor* visitor) : visitor_(visitor) {}

  // Reads the next bytes. After an error, nothing else may be called.
  absl::Status Feed(absl::string_view bytes);

  // Returns an error unless the archive is complete.
  absl::Status Finish() const;

 private:
  enum class State { kHeader, kPax, kData, kPadding, kEnd };

  // Each reads a part of `bytes` and removes it from there.
  absl::Status FeedHeader(absl::string_view* bytes);
  absl::Status FeedPax(absl::string_view* bytes);
  absl::Status FeedData(absl::string_view* bytes);
  absl::Status FeedPadding(absl::string_view* bytes);
  absl::Status FeedEnd(absl::string_view* bytes);

  // Moves bytes to buffer_ until it has `size`. Returns whether it has.
  bool Fill(absl::string_view* bytes, size_t size);
  absl::Status BeginEntry(const TarHeader& header);
  absl::Status BeginPax(const TarHeader& header);
  // Ends the current entry, whose data is complete.
  absl::Status EndEntry();
  absl::Status Invalid(absl::string_view problem) const;

  TarVisitor* const visitor_;
  State state_ = State::kHeader;
  // An incomplete header.
  std::string buffer_;
  // The path for errors.
  std::string path_;
  // Whether an extended header is waiting for its entry, and its fields.
  bool has_pax_ = false;
  PaxFields pax_;
  size_t pax_bytes_ = 0;
  // Bytes of data, or of padding, that are still to come.
  int64_t data_bytes_ = 0;
  size_t padding_bytes_ = 0;
  // Zeros seen at the end.
  size_t end_bytes_ = 0;
};

}  // namespace mlops::archive

#endif  // MLOPS_SERVICE_ARCHIVE_TAR_READER_H_
