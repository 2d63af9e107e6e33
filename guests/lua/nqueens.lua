-- Counts the ways to put n queens on a board: recursion and small tables. nqueens [n = 10]
local n = tonumber(arg[1] or 10)
local ways, columns, rising, falling = 0, {}, {}, {}
local function place(row)
  if row > n then ways = ways + 1; return end
  for c = 1, n do
    if not (columns[c] or rising[row + c] or falling[row - c]) then
      columns[c], rising[row + c], falling[row - c] = true, true, true
      place(row + 1)
      columns[c], rising[row + c], falling[row - c] = nil, nil, nil
    end
  end
end
place(1)
print(n .. " queens: " .. ways .. " ways")
