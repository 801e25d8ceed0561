# Ends with 0 when data/total.txt holds one line, the sum of the units. The model never sees this script.
set -eu
test "$(wc -l < data/total.txt)" -eq 1
test "$(cat data/total.txt)" -eq "$(awk -F, 'NR > 1 { sum += $3 } END { print sum }' data/sales.csv)"
