// An application with @fanoutio/grip: node grip_application.mjs PORT GRIP_URL
import {createServer} from "node:http";
import {GripInstruct, Publisher} from "@fanoutio/grip";

const [port, url] = process.argv.slice(2);
const publisher = new Publisher(url);

createServer(async (request, response) => {
  const {isProxied, isSigned} = await publisher.validateGripSig(request.headers["grip-sig"]);
  if (request.url === "/publish-now") {
    await publisher.publishHttpStream("node", "data: published\n\n");
    await publisher.publishHttpResponse("node", "published");
    response.end("published\n");
    return;
  }
  if (!isProxied || !isSigned) {
    response.statusCode = 501;
    response.end("not signed\n");
    return;
  }
  const instruct = new GripInstruct("node");
  if (request.url === "/stream") {
    instruct.setHoldStream();
    instruct.setKeepAlive(":\n\n", 20);
    response.writeHead(200, instruct.toHeaders({"Content-Type": "text/event-stream"}));
    response.end("data: open\n\n");
  } else {
    instruct.setHoldLongPoll(20);
    response.writeHead(200, instruct.toHeaders({"Content-Type": "text/plain"}));
    response.end("nothing\n");
  }
}).listen(Number(port), "127.0.0.1");
