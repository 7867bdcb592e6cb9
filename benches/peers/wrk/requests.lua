-- Sends the bodies of the file, one a line, in turn: wrk -s requests.lua URL -- FILE TOKEN
local requests, number = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json", ["Authorization"] = arguments[2] }
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", "/stocks", headers, body)
  end
end

function request()
  number = number % #requests + 1
  return requests[number]
end
