// Neither is needed to read the page: a picture opens larger, a column sorts.
const dialog = document.querySelector("dialog");
document.addEventListener("click", (event) => {
  if (event.target.closest("dialog")) return dialog.close();
  const picture = event.target.closest(".sheet img");
  if (picture) {
    dialog.querySelector("img").src = picture.src;
    dialog.querySelector("p").textContent = picture.alt;
    dialog.showModal();
  }
});
for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = Object.assign(document.createElement("button"), { className: "sort", textContent: head.textContent });
  let descending = true;
  button.addEventListener("click", () => {
    const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
    const rows = [...head.closest("table").tBodies[0].rows];
    rows.sort((a, b) => value(b).localeCompare(value(a), undefined, { numeric: true }));
    head.closest("table").tBodies[0].append(...(descending ? rows : rows.reverse()));
    descending = !descending;
  });
  head.replaceChildren(button);
}
