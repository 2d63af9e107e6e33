-- Strings, tables, closures, coroutines, errors: each part prints a line that depends on all it did.
-- bench [size = 60]; the time grows linearly with it.
local size = tonumber(arg[1] or 60)

-- A generator of our own, since math.random is seeded from addresses and time.
local state = 42
local function random(n)
  state = (state * 1103515245 + 12345) & 0x7fffffff
  return (state >> 8) % n + 1
end

local function sum(text)
  local h = 5381
  for i = 1, #text do h = (h * 33 + text:byte(i)) & 0xffffffffffff end
  return string.format("%012x", h)
end

local function strings()
  local parts = {}
  for i = 1, size * 2000 do parts[#parts + 1] = string.format("%d:%x", i, random(1 << 20)) end
  local text = table.concat(parts, ",")
  local count = 0
  local turned = text:gsub("(%d+):(%x+)", function(a, b) count = count + 1; return b .. "=" .. a end)
  return count .. " " .. #turned .. " " .. sum(turned)
end

local function tables()
  local list, by_key = {}, {}
  for i = 1, size * 5000 do
    list[i] = {key = random(1000000), place = i}
    by_key["k" .. list[i].key] = i
  end
  table.sort(list, function(a, b) return a.key < b.key or (a.key == b.key and a.place < b.place) end)
  local hash = 0
  for i, entry in ipairs(list) do hash = (hash * 31 + entry.key + entry.place * i) & 0xffffffffffff end
  local kept = 0
  for key in pairs(by_key) do if key:sub(-1) ~= "7" then by_key[key] = nil else kept = kept + 1 end end
  return string.format("%012x %d", hash, kept)
end

local function closures()
  local function counter(step)
    local n = 0
    return function() n = n + step; return n end
  end
  local counters = {}
  for i = 1, 100 do counters[i] = counter(i) end
  local total = 0
  for _ = 1, size * 400 do for i = 1, 100 do total = total + counters[i]() end end
  return tostring(total)
end

local function coroutines()
  local function walk(low, high)
    if low > high then return end
    local middle = (low + high) // 2
    walk(low, middle - 1)
    coroutine.yield(middle)
    walk(middle + 1, high)
  end
  local total = 0
  for round = 1, size * 20 do
    local place = 0
    for value in coroutine.wrap(function() walk(1, 500) end) do
      place = place + 1
      total = total + value * place + round
    end
  end
  return tostring(total)
end

local function errors()
  local caught, total = 0, 0
  local function risky(depth)
    if depth == 0 then error({code = random(1000)}) end
    risky(depth - 1)
    return depth -- keeps the frame
  end
  for i = 1, size * 5000 do
    local ok, problem = pcall(risky, i % 10)
    if not ok then caught = caught + 1; total = total + problem.code end
  end
  local ok, message = pcall(function() return nil + 1 end)
  local inner = coroutine.wrap(function() local good, why = pcall(error, "inside", 0); coroutine.yield(why); error("out", 0) end)
  local first = inner()
  local _, second = pcall(inner)
  return caught .. " " .. total .. " " .. tostring(ok) .. " " .. message .. " " .. first .. " " .. second
end

local function numbers()
  local x, steps = 0.5, size * 200000
  for i = 1, steps do x = 3.9 * x * (1 - x) end
  return string.format("%.17g", x)
end

for _, part in ipairs {{"strings", strings}, {"tables", tables}, {"closures", closures}, {"coroutines", coroutines},
                       {"errors", errors}, {"numbers", numbers}} do
  print(part[1], part[2]())
end
