-- For wrk: one body, posted again and again.
--
--     wrk ... -s post.lua URL -- BODY [NAME VALUE]...
--
-- Prints what it counted, and every latency in microseconds with how often it was seen, as one line of JSON.

local function integer(number)
   return string.format("%.0f", number)
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method, wrk.body = "POST", file:read("*a")
   file:close()
   for index = 2, #args, 2 do
      wrk.headers[args[index]] = args[index + 1]
   end
end

function done(summary, latency)
   local seen = {}
   for index = 1, #latency do
      local us, count = latency(index)
      seen[index] = string.format("[%s,%s]", integer(us), integer(count))
   end
   local counted = {}
   for name, value in pairs(summary.errors) do
      counted[#counted + 1] = string.format('"%s":%s', name, integer(value))
   end
   local report = '{"requests":%s,"us":%s,"errors":{%s},"latencies":[%s]}'
   print(string.format(report, integer(summary.requests), integer(summary.duration), table.concat(counted, ","),
      table.concat(seen, ",")))
end
