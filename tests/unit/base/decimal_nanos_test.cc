#include "proto/cpp/base/decimal_nanos.h"

#include <gtest/gtest.h>

namespace mlops::base {
namespace {

TEST(DecimalNanosTest, IsExactWhateverTheTime) {
  EXPECT_EQ(DecimalNanos(absl::FromUnixNanos(1'700'000'000'123'456'789)),
            "1700000000123456789");
  EXPECT_EQ(DecimalNanos(absl::FromUnixNanos(-1)), "-1");
  EXPECT_EQ(DecimalNanos(absl::FromUnixSeconds(1'780'000'000'000) +
                         absl::Nanoseconds(5)),
            "1780000000000000000005");
  EXPECT_EQ(DecimalNanos(absl::FromUnixSeconds(-20'000'000'000)),
            "-20000000000000000000");
  EXPECT_EQ(DecimalNanos(absl::FromUnixSeconds(9'000'000'000)),
            "9000000000000000000");
}

}  // namespace
}  // namespace mlops::base
