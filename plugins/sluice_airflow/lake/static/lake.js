// The page "Lake" of the rail: one address for each page and each of its states, below /plugin/lake.

import { html, page, ROOT } from "./ui.js";
import { Files } from "./pages/files.js";
import { Lineage } from "./pages/lineage.js";
import { Overview } from "./pages/overview.js";
import { Quality } from "./pages/quality.js";
import { Quarantine } from "./pages/quarantine.js";
import { Tables } from "./pages/tables.js";

const { useEffect, useRef } = globalThis.React;
const { NavLink, useLocation } = globalThis.ReactRouterDOM;
const { Box, Flex, Heading } = globalThis.ChakraUI;

const PAGES = [
  { path: "", title: "Overview", view: Overview },
  { path: "lineage", title: "Lineage", view: Lineage },
  { path: "tables", title: "Tables", view: Tables },
  { path: "quality", title: "Quality", view: Quality },
  { path: "quarantine", title: "Quarantine", view: Quarantine },
  { path: "files", title: "Files", view: Files },
];

const Lake = () => {
  const { pathname } = useLocation();
  const [path, ...parts] = pathname.split(ROOT).pop().split("/").filter(Boolean).map(decodeURIComponent);
  const shown = PAGES.find((each) => each.path === (path ?? "")) ?? PAGES[0];
  useEffect(() => {
    const before = document.title;
    document.title = `${shown.title} · Lake`;
    return () => { document.title = before; };
  }, [shown]);
  const tabs = useRef(null);
  useEffect(() => {
    tabs.current?.querySelector("[aria-current=page]")?.scrollIntoView({ inline: "nearest", block: "nearest" });
  }, [shown]);
  return html`<${Box} height="100%" overflowY="auto" bg="bg" color="fg" data-testid="lake">
    <${Box} maxW="1600px" mx="auto" px=${{ base: 3, md: 6 }} pb=10>
      <${Flex} as="header" align="center" gap=${{ base: 2, md: 6 }} wrap="wrap" pt=4 mb=4 borderBottomWidth="1px">
        <${Heading} as="h1" size="xl">Lake</${Heading}>
        <${Flex} ref=${tabs} as="nav" aria-label="Pages of the lake" overflowX="auto" gap=1 maxW="100%">
          ${PAGES.map((each) => html`<${Tab} key=${each.path} ...${each} isShown=${each === shown} />`)}
        </${Flex}>
      </${Flex}>
      <main><${shown.view} parts=${parts} /></main>
    </${Box}>
  </${Box}>`;
};

const Tab = ({ path, title, isShown }) => html`<${Box} asChild px=3 py=2 fontSize="sm" whiteSpace="nowrap"
  fontWeight=${isShown ? "semibold" : "normal"} borderBottomWidth="2px" color=${isShown ? "fg" : "fg.muted"}
  borderColor=${isShown ? "blue.solid" : "transparent"} _hover=${{ color: "fg", bg: "bg.muted" }}>
  <${NavLink} to=${page(path)} end aria-current=${isShown ? "page" : undefined}>${title}</${NavLink}>
</${Box}>`;

globalThis.Lake = Lake;
globalThis.AirflowPlugin = Lake;
