// An archive can contain anything. However it is cut into chunks, it must
// be refused with a text that can be logged, or give the same entries, which
// obey the rules.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/utf8.h"
#include "service/archive/entry_rules.h"
#include "service/archive/manifest.h"
#include "service/archive/tar_format.h"
#include "service/archive/tar_reader.h"

namespace {

namespace archive = mlops::archive;

// Notes the entries, and what the rules say about them.
class Notes final : public archive::TarVisitor {
 public:
  absl::Status Begin(const archive::TarEntry& entry) override {
    absl::StrAppend(&text, entry.path, "|", entry.size_bytes, "|",
                    absl::FormatTime(entry.modify_time), "|", entry.link_target,
                    "|", order_.Add(entry.path, entry.type), "\n");
    if (entry.type == archive::TarType::kSymlink)
      absl::StrAppend(
          &text, archive::LinkProblem(entry.path, entry.link_target), "\n");
    // What was read can be written again.
    const std::string encoded = archive::EncodeTarEntry(entry);
    if (encoded.size() % archive::kTarBlockBytes != 0) std::abort();
    content_.clear();
    return absl::OkStatus();
  }
  absl::Status Data(absl::string_view bytes) override {
    if (bytes.empty()) std::abort();
    if (content_.size() < 4096) content_.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  absl::Status End() override {
    const auto manifest = archive::DecodeManifest(content_);
    if (!manifest.ok()) return absl::OkStatus();
    const std::string again = archive::EncodeManifest(*manifest);
    const auto decoded = archive::DecodeManifest(again);
    if (!decoded.ok() || archive::EncodeManifest(*decoded) != again)
      std::abort();
    return absl::OkStatus();
  }

  std::string text;

 private:
  archive::EntryOrder order_;
  std::string content_;
};

std::string Read(absl::string_view data, size_t chunk) {
  Notes notes;
  archive::TarReader reader(&notes);
  absl::Status status;
  for (size_t i = 0; i < data.size() && status.ok(); i += chunk)
    status = reader.Feed(data.substr(i, chunk));
  if (status.ok()) status = reader.Finish();
  if (!status.ok() && (mlops::base::GetReason(status) != "ARCHIVE_INVALID" ||
                       !mlops::base::IsValidUtf8(status.message())))
    std::abort();
  return absl::StrCat(notes.text, status.ToString());
}

// Corrects the checksums of headers, which no fuzzer guesses.
std::string WithChecksums(std::string data) {
  for (size_t at = 0; at + archive::kTarBlockBytes <= data.size();
       at += archive::kTarBlockBytes) {
    if (absl::string_view(data).substr(at + 257, 5) != "ustar") continue;
    data.replace(at + 148, 8, "        ");
    int sum = 0;
    for (size_t i = 0; i < archive::kTarBlockBytes; ++i)
      sum += static_cast<unsigned char>(data[at + i]);
    data.replace(at + 148, 8, absl::StrFormat("%06o%c ", sum, '\0'));
  }
  return data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string raw(reinterpret_cast<const char*>(data), size);
  for (const std::string& text : {raw, WithChecksums(raw)}) {
    const std::string whole = Read(text, std::max<size_t>(size, 1));
    for (const size_t chunk : {size_t{13}, size_t{512}, size_t{1000}})
      if (Read(text, chunk) != whole) std::abort();
  }
  // Keeps the parsers of the parts busy too.
  (void)archive::DecodePaxHeader(raw);
  return 0;
}
