#include "service/observe/metrics.h"

#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace mlops::observe {
namespace {

std::string LabelsText(const Labels& labels) {
  return absl::StrJoin(labels, ",", [](std::string* out, const auto& label) {
    absl::StrAppend(
        out, label.first, "=\"",
        absl::StrReplaceAll(label.second,
                            {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}),
        "\"");
  });
}

// Returns the shortest text that reads back as `value`; StrCat() would round to
// six digits.
std::string NumberText(double value) {
  std::array<char, 32> text;
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return std::string(text.data(), end);
}

void AppendSample(std::string& out, absl::string_view name,
                  absl::string_view labels, double value) {
  absl::StrAppend(&out, name);
  if (!labels.empty()) absl::StrAppend(&out, "{", labels, "}");
  absl::StrAppend(&out, " ", NumberText(value), "\n");
}

void AppendHistogram(std::string& out, absl::string_view name,
                     absl::string_view labels, const Histogram& histogram) {
  const Histogram::Snapshot snapshot = histogram.Take();
  const absl::string_view comma = labels.empty() ? "" : ",";
  // Buckets are cumulative in this format, and the last one has no bound.
  for (size_t i = 0; i < snapshot.cumulative.size(); ++i) {
    const std::string bound =
        i < histogram.bounds().size()
            ? absl::StrCat(absl::ToDoubleSeconds(histogram.bounds()[i]))
            : "+Inf";
    AppendSample(out, absl::StrCat(name, "_bucket"),
                 absl::StrCat(labels, comma, "le=\"", bound, "\""),
                 static_cast<double>(snapshot.cumulative[i]));
  }
  AppendSample(out, absl::StrCat(name, "_sum"), labels, snapshot.sum_seconds);
  AppendSample(out, absl::StrCat(name, "_count"), labels,
               static_cast<double>(snapshot.cumulative.back()));
}

}  // namespace

void Metrics::AddCounter(const Family& family, const Labels& labels,
                         Read read) {
  Add(family, "counter", {LabelsText(labels), std::move(read)});
}

void Metrics::AddGauge(const Family& family, const Labels& labels, Read read) {
  Add(family, "gauge", {LabelsText(labels), std::move(read)});
}

void Metrics::AddHistogram(const Family& family, const Labels& labels,
                           const Histogram* histogram) {
  Add(family, "histogram", {LabelsText(labels), histogram});
}

void Metrics::Add(const Family& family, absl::string_view type, Series series) {
  absl::MutexLock lock(&mutex_);
  const auto [it, is_new] = index_.emplace(family.name, groups_.size());
  // The first series of a name defines the type and the help text.
  if (is_new) {
    groups_.push_back({.name = family.name,
                       .help = absl::StrReplaceAll(
                           family.help, {{"\\", "\\\\"}, {"\n", "\\n"}}),
                       .type = type});
  }
  groups_[it->second].series.push_back(std::move(series));
}

std::string Metrics::Write() const {
  std::string out;
  // The lock also serializes the Read functions.
  absl::MutexLock lock(&mutex_);
  for (const Group& group : groups_) {
    absl::StrAppend(&out, "# HELP ", group.name, " ", group.help, "\n# TYPE ",
                    group.name, " ", group.type, "\n");
    for (const auto& [labels, source] : group.series) {
      if (const auto* histogram = std::get_if<const Histogram*>(&source)) {
        AppendHistogram(out, group.name, labels, **histogram);
      } else if (const double value = std::get<Read>(source)();
                 !std::isnan(value)) {
        AppendSample(out, group.name, labels, value);
      }
    }
  }
  return out;
}

}  // namespace mlops::observe
