#include "service/core/filter.h"

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cpp/base/error.h"

namespace mlops::core {
namespace {

using ::testing::HasSubstr;

Workspace Fraud() {
  return {.project = *ProjectName::Parse("fraud-detection"),
          .settings = {.mlflow_experiment_id = "17",
                       .dvc_remote_path = "s3://data/fraud"},
          .metadata = Metadata::parse(R"({
              "stage": "production", "runs": 3, "score": 0.5, "live": true, "owner": null, "empty": "", "star": "a*",
              "team": {"name": "risk", "people": ["ann", "bob"]}, "my key": 1, "version": "2", "dotted.key": "x"})"),
          .create_time = absl::FromCivil(
              absl::CivilSecond(2026, 1, 31, 12, 0, 0), absl::UTCTimeZone()),
          .update_time = absl::FromCivil(
              absl::CivilSecond(2026, 2, 1, 12, 0, 0), absl::UTCTimeZone())};
}

struct Example {
  std::string filter;
  bool matches;
};
void PrintTo(const Example& example, std::ostream* out) {
  *out << example.filter;
}

class FilterMatches : public testing::TestWithParam<Example> {};

TEST_P(FilterMatches, AsTheLanguageSays) {
  const auto filter = Filter::Parse(GetParam().filter);
  ASSERT_TRUE(filter.ok()) << filter.status();
  EXPECT_EQ(filter->Matches(Fraud()), GetParam().matches);
}

INSTANTIATE_TEST_SUITE_P(Names, FilterMatches,
                         testing::ValuesIn(std::vector<Example>{
                             {"", true},
                             {"  ", true},
                             {"fraud", true},
                             {"FRAUD", false},
                             {"'fraud-det'", true},
                             {"fraud*", true},
                             {"*detection", true},
                             {"*aud-det*", true},
                             {"detection*", false},
                             {"project = fraud-detection", true},
                             {"project=fraud", false},
                             {"project = \"fraud-*\"", true},
                             {R"(project = "fraud-\*")", false},
                             {"project = *", true},
                             {"project : detect", true},
                             {"project != fraud*", false},
                             {"project < g AND project >= fraud", true},
                             {"mlflow_experiment_id = 17", true},
                             {"mlflow_experiment_id:*", true},
                             {"mlflow_tracking_uri:*", false},
                             {"dvc_remote_path = s3:*", true},
                             {"bentoml_tag_prefix != x", false},
                             {"NOT bentoml_tag_prefix = x", true}}));

INSTANTIATE_TEST_SUITE_P(Times, FilterMatches,
                         testing::ValuesIn(std::vector<Example>{
                             {"create_time > 2026-01-31", true},
                             {"create_time > \"2026-01-31T12:00:00Z\"", false},
                             {"create_time >= 2026-01-31T12:00:00Z", true},
                             {"create_time = '2026-01-31T13:00:00+01:00'",
                              true},
                             {"update_time < 2026-02-01", false},
                             {"update_time:*", true}}));

INSTANTIATE_TEST_SUITE_P(OfMetadata, FilterMatches,
                         testing::ValuesIn(std::vector<Example>{
                             {"metadata.stage = production", true},
                             {"metadata.stage=prod*", true},
                             {"metadata.stage != staging", true},
                             {"metadata.nothing != staging", false},
                             {"metadata.runs > 2.5 metadata.runs <= 3", true},
                             {"metadata.runs = 3.0", true},
                             {"metadata.runs = \"3\"", false},
                             {"metadata.runs = *", true},
                             {"metadata.team = *", true},
                             {"metadata.nothing = *", false},
                             {"metadata.owner = *", false},
                             {"metadata.runs = \"*\"", false},
                             {"metadata.runs > production", false},
                             {"metadata.version = 2", true},
                             {"metadata.score = 5e-1", true},
                             {"metadata.live = true", true},
                             {"metadata.live = \"true\"", false},
                             {"metadata.owner = null", true},
                             {"metadata.owner:*", false},
                             {"metadata.empty = \"\"", true},
                             {R"(metadata.star = "a\*")", true},
                             {"metadata.team.name = risk", true},
                             {"metadata.team:name", true},
                             {"metadata.team:risk", false},
                             {"metadata.team.people:ann", true},
                             {"metadata.team.people:an", false},
                             {"metadata.team.people:*", true},
                             {"metadata.team = risk", false},
                             {"metadata.stage.deeper = x", false},
                             {"metadata.\"my key\" = 1", true},
                             {"metadata.'dotted.key':x", true},
                             {"metadata:stage", true},
                             {"metadata:*", true}}));

INSTANTIATE_TEST_SUITE_P(Together, FilterMatches,
                         testing::ValuesIn(std::vector<Example>{
                             {"fraud AND detection", true},
                             {"fraud detection", true},
                             {"fraud AND other", false},
                             {"other OR fraud", true},
                             // OR binds more tightly than AND.
                             {"fraud OR x AND y", false},
                             {"(fraud) OR (x AND y)", true},
                             {"-other", true},
                             {"-fraud", false},
                             {"NOT (other OR fraud)", false},
                             {"NOT(other)", true},
                             {"NOT -fraud", true},
                             {"metadata.runs = -3", false},
                             {"ANDROID OR fraud", true}}));

// Text that the rejections below must not affect: quoted, as a part of a word,
// or as a key.
INSTANTIATE_TEST_SUITE_P(Ordinary, FilterMatches,
                         testing::ValuesIn(std::vector<Example>{
                             {"'and'", false},
                             {"\"in\" OR fraud", true},
                             {"metadata.stage != 'not'", true},
                             {"metadata.stage != \"True\"", true},
                             {"metadata.stage != 'a && b'", true},
                             {"android OR notice OR inner OR fraud", true},
                             {"and-x OR fraud", true},
                             {"metadata.and = 1", false},
                             {"metadata.'a|b' = 1", false},
                             {"metadata.gr\xc3\xb6\xc3\x9f"
                              "e = 1",
                              false},
                             {"'metadata'", false},
                             {"projects OR fraud", true},
                             {"'fraud/x' OR fraud", true},
                             {"project != 'fraud/x'", true},
                             {"dvc_remote_path = s3://data/fraud", true},
                             {"dvc_remote_path != ~/remote", true},
                             {"dvc_remote_path:*", true},
                             {"metadata.stage != 100%", true},
                             {"metadata.stage != caf\xc3\xa9", true}}));

struct BadExample {
  std::string filter;
  int position;
  std::string problem;
};
void PrintTo(const BadExample& example, std::ostream* out) {
  *out << example.filter;
}

class FilterRefuses : public testing::TestWithParam<BadExample> {};

TEST_P(FilterRefuses, AndSaysWhereAndWhatWasExpected) {
  const auto info =
      base::GetErrorInfo(Filter::Parse(GetParam().filter).status());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "FILTER_INVALID");
  EXPECT_EQ(info->metadata.at("field"), "filter");
  EXPECT_EQ(info->metadata.at("position"), absl::StrCat(GetParam().position))
      << info->metadata.at("problem");
  EXPECT_THAT(info->metadata.at("problem"), HasSubstr(GetParam().problem));
}

INSTANTIATE_TEST_SUITE_P(
    All, FilterRefuses,
    testing::ValuesIn(std::vector<BadExample>{
        {"stage = x", 0, "there is no field stage"},
        {"a AND stage = x", 6, "there is no field stage"},
        {"project.name = x", 0, "there is no field project.name"},
        {"\"project\" = x", 0, "there is no field project"},
        {"uid = 7", 0, "there is no field uid"},
        {"project =", 9, "expected a value, not the end"},
        {"project = AND", 10, "expected a value, not AND"},
        {"project = )", 10, "expected a value"},
        {"project == x", 8, "expected =, not =="},
        {"= x", 0, "expected a term"},
        {"(fraud", 6, "expected ) for the ( at position 0"},
        {"(fraud OR (x)", 13, "for the ( at position 0"},
        {"fraud)", 5, "expected the end"},
        {"()", 1, "expected a term"},
        {"AND fraud", 0, "expected a term"},
        {"fraud AND", 9, "expected a term"},
        {"fraud AND OR x", 10, "expected a term"},
        {"fraud OR", 8, "expected a term"},
        {"NOT", 3, "expected a term"},
        {"a AND NOT", 9, "expected a term"},
        {"project = \"fraud", 10, "expected a second \""},
        {"project = 'x\\", 10, "expected a second '"},
        {"project = \"a\"b", 13, "expected a space"},
        {"project = fr*d", 12, "within"},
        {"project < fr*", 10, "without *"},
        {"create_time > yesterday", 14, "expected a time"},
        {"create_time = 2026-*", 14, "expected a time"},
        {"update_time:17", 12, "expected a time"},
        {"metadata = x", 11, "a key of the metadata"},
        {"metadata. = x", 9, "a key after the dot"},
        {"metadata.a..b = x", 11, "a key after the dot"},
        {"metadata.\"a = x", 9, "expected a second \""},
        {std::string(2049, 'x'), 2048, "longer than 2048 bytes"},
        {std::string(33, '(') + "x", 32, "nested deeper than 32"},
        {"project = \xff\"", 11, "expected a space"}}));

INSTANTIATE_TEST_SUITE_P(
    OperatorsOfOtherLanguages, FilterRefuses,
    testing::ValuesIn(std::vector<BadExample>{
        {"fraud and eu", 6, "expected AND, not and"},
        {"fraud And eu", 6, "expected AND, not And"},
        {"(fraud) or (eu)", 8, "expected OR, not or"},
        {"metadata.a = 1 or metadata.b = 2", 15, "expected OR, not or"},
        {"not fraud", 0, "expected NOT, not not"},
        {"fraud AND Not eu", 10, "expected NOT"},
        {"metadata.a = not null", 13, "expected NOT"},
        {"metadata.stage = and", 17, "expected AND"},
        {"metadata.stage in (a, b)", 15, "(FIELD = A OR FIELD = B)"},
        {"metadata.stage NOT IN (a)", 14, "expected an operator"},
        {"project like 'x%'", 8, "expected : or, with *"},
        {"project LIKE x", 8, "expected : or, with *"},
        {"metadata.owner is null", 15, "FIELD:*"},
        {"metadata.owner IS NOT NULL", 15, "FIELD:*"},
        {"metadata.tags contains eu", 14, "expected :"},
        {"contains(project, x)", 0, "expected :"},
        {"project startsWith fraud", 8, "* at the end"},
        {"metadata.runs between 1 AND 2", 14, "FIELD >= A AND FIELD <= B"},
        {"metadata.runs gt 3", 14, "expected >"},
        {"where metadata.stage = x", 0, "the condition alone"},
        {"fraud && eu", 6, "expected AND, not &&"},
        {"fraud&&eu", 5, "expected AND, not &&"},
        {"metadata.a = 1 && metadata.b = 2", 15, "expected AND, not &&"},
        {"metadata.a=1&&metadata.b=2", 12, "expected AND, not &&"},
        {"fraud & eu", 6, "expected AND, not &"},
        {"fraud || eu", 6, "expected OR, not ||"},
        {"fraud|eu", 5, "expected OR, not |"},
        {"metadata.stage = a|b", 18, "expected OR, not |"},
        {"metadata.stage = a, b", 18, "expected AND or OR, not ,"},
        {"fraud,eu", 5, "expected AND or OR"},
        {"fraud;", 5, "expected AND, not ;"},
        {"+fraud", 0, "expected AND, not +"},
        {"!fraud", 0, "expected NOT or -, not !"},
        {"fraud !eu", 6, "expected NOT or -"},
        {"fraud AND !(eu)", 10, "expected NOT or -"},
        {"project === x", 8, "expected =, not ==="},
        {"metadata.a <> 1", 11, "expected !=, not <>"},
        {"metadata.a =~ x.*", 11, "expected : or"},
        {"metadata.a ~ x", 11, "expected : or"},
        {"metadata.a !~ x", 11, "expected NOT FIELD:"},
        {"metadata.a=<1", 10, "expected <="},
        {"metadata.a := 1", 11, "expected ="},
        {"metadata.a >< 1", 11, "expected one of"},
        {"metadata.a \xe2\x89\xa0 1", 11, "expected !="},
        {"project = \xe2\x80\x9c"
         "fraud\xe2\x80\x9d",
         10, "expected \" or '"},
        {"metadata.a\xc2\xa0= 1", 10, "an ordinary space"},
        {"metadata.a\xe3\x80\x80= 1", 10, "an ordinary space"}}));

INSTANTIATE_TEST_SUITE_P(
    WhatCannotMatch, FilterRefuses,
    testing::ValuesIn(std::vector<BadExample>{
        {"metadata", 8, "after the field metadata"},
        {"metadata.stage", 14, "after the field metadata.stage"},
        {"metadata.stage production", 14, "after the field metadata.stage"},
        {"metadata[\"stage\"] = x", 8, "metadata.KEY, not ["},
        {"metadata['stage']", 8, "metadata.KEY, not ["},
        {"metadata:stage=production", 14,
         "expected quotes around a value with ="},
        {"metadata.\"a\"|x = 1", 12, "expected OR, not |"},
        {"metadata.a* = 1", 10, "expected quotes around a key"},
        {"metadata.a/b = 1", 10, "expected quotes around a key"},
        {"metadata.a = -", 13, "expected a value"},
        {"metadata.a != *", 14, "NOT FIELD:*"},
        {"project != *", 11, "NOT FIELD:*"},
        {"metadata.live = True", 16, "expected true, not True"},
        {"metadata.live = FALSE", 16, "expected false"},
        {"metadata.owner = None", 17, "expected null, not None"},
        {"project fraud", 7, "after the field project"},
        {"create_time 2026-01-31", 11, "after the field create_time"},
        {"mlflow_experiment_id", 20, "after the field mlflow_experiment_id"},
        {"fraud AND metadata", 18, "after the field metadata"},
        {"fraud/eu", 5, "a project's name with /"},
        {"fraud%", 5, "expected *, not %"},
        {"caf\xc3\xa9", 3, "a project's name"},
        {"project = /fraud/", 10, "a project's name with /"},
        {"project : a@b", 11, "a project's name with @"},
        {"lower(fraud)", 5, "there are no functions"},
        {"metadata.a = max(b)", 16, "there are no functions"}}));

TEST(FilterTest, HasAtMost64Terms) {
  std::string filter = "a";
  for (int i = 1; i < 64; ++i) filter += " OR a";
  EXPECT_TRUE(Filter::Parse(filter).ok());
  EXPECT_EQ(base::GetErrorInfo(Filter::Parse(filter + " b").status())
                ->metadata.at("position"),
            absl::StrCat(filter.size() + 1));
}

TEST(FilterTest, KeepsItsText) {
  EXPECT_EQ(Filter::Parse("a OR b")->text(), "a OR b");
  EXPECT_TRUE(Filter().matches_all());
  EXPECT_FALSE(Filter::Parse("a")->matches_all());
}

}  // namespace
}  // namespace mlops::core
