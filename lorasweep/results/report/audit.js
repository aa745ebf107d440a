for (const button of document.querySelectorAll("[data-show]"))
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[data-show]"))
      other.setAttribute("aria-pressed", String(other === button));
    const wanted = {
      all: () => true,
      findings: (figure) => figure.dataset.findings !== "0",
      held: (figure) => figure.dataset.held === "1",
    }[button.dataset.show];
    for (const figure of document.querySelectorAll("figure")) figure.hidden = !wanted(figure);
  });
