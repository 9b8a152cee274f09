-- Script for wrk that posts the same body repeatedly.
--
--     wrk ... -s post.lua URL -- BODY [NAME VALUE]...
--
-- Prints the statistics as one line of JSON, with the number of occurrences of each latency in microseconds.

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
   local latencies = {}
   for index = 1, #latency do
      local us, count = latency(index)
      latencies[index] = string.format("[%s,%s]", integer(us), integer(count))
   end
   local errors = {}
   for name, value in pairs(summary.errors) do
      errors[#errors + 1] = string.format('"%s":%s', name, integer(value))
   end
   local report = '{"requests":%s,"us":%s,"errors":{%s},"latencies":[%s]}'
   print(string.format(report, integer(summary.requests), integer(summary.duration), table.concat(errors, ","),
      table.concat(latencies, ",")))
end
