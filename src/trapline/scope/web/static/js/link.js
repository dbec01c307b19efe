// The server: a stream of news that comes by itself, and questions.

import { store } from "./store.js";

export function listen(onConsole) {
  const source = new EventSource("/stream");
  source.addEventListener("state", (message) => store.patch(JSON.parse(message.data)));
  source.addEventListener("events", (message) => {
    const { events, missed } = JSON.parse(message.data);
    store.add(events, missed);
  });
  source.addEventListener("console", (message) => {
    const { text, cut } = JSON.parse(message.data);
    onConsole(text, cut);
  });
  source.addEventListener("open", () => store.patch({ linked: true }));
  source.addEventListener("error", () => store.patch({ linked: false }));
}

// The answer's value. Throws Error with the server's words.
export async function ask(question) {
  let response;
  try {
    response = await fetch("/ask", { method: "POST", body: JSON.stringify(question) });
  } catch {
    throw new Error("trapline explore has ended, or does not answer");
  }
  if (!response.ok) throw new Error((await response.text()).trim());
  const answer = await response.json();
  if (answer.error !== undefined) throw new Error(answer.error);
  return answer.value;
}

export async function coverage() {
  const response = await fetch("/coverage");
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}
