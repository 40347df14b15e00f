export const STATUS_PAGE = '';
export const STATUS_PAGE_POLICY = '';
